package auth

import (
	"testing"
	"time"
)

// An administrator ends the locks of a user, and no others.
func TestUnlock(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		policy := DefaultLockout()
		policy.Threshold, policy.UserThreshold = 3, 3
		if err := b.Configure(policy); err != nil {
			t.Fatal(err)
		}
		locked := func(when string, want bool) {
			t.Helper()
			if got := b.Locked("bob"); got != want {
				t.Errorf("%s: Locked is %v, want %v", when, got, want)
			}
		}
		locked("at first", false)
		b.fail("bob", here, 3)
		locked("after failures", true)
		b.want("bob", here, good, ErrDenied)
		b.kinds()
		b.Unlock("root", Attempt{})
		locked("another unlocked", true)
		b.Unlock("bob", Attempt{Via: "redfish", Name: "root"})
		locked("unlocked", false)
		if got := b.kinds(); len(got) != 1 || got[0] != "auth.unlocked" {
			t.Errorf("reports %q, want one of auth.unlocked", got)
		}
		b.want("bob", here, good, nil)
		time.Sleep(time.Hour) // the lock's own end is not told again
		for _, kind := range b.kinds() {
			if kind == "auth.unlocked" {
				t.Error("unlocked twice")
			}
		}

		// From a usual place, too.
		b.fail("bob", here, 3)
		locked("after failures from the usual place", true)
		b.Unlock("bob", Attempt{})
		b.want("bob", here, good, nil)

		b.fail("bob", elsewhere, 3)
		time.Sleep(policy.First)
		locked("when it has ended", false)
	})
}
