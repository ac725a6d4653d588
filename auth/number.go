package auth

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/nitrino/nitrino/internal/store"
)

// The numbers that users have, which are their IPMI user IDs. 1 is IPMI's
// anonymous user (IPMI 2.0 section 6.9), whom there is not: nobody logs in
// without a name.
const (
	MinNumber = 2
	MaxNumber = MinNumber + MaxUsers - 1
)

// checkNumber also takes 0, none yet.
func checkNumber(n int) error {
	if n != 0 && (n < MinNumber || n > MaxNumber) {
		return fmt.Errorf("%w: a user's number is %d to %d", ErrInvalid, MinNumber, MaxNumber)
	}
	return nil
}

// ByNumber returns the user of a number.
func (a *Auth) ByNumber(n int) (User, bool) {
	r := numbered(*a.users.Load(), n)
	if r == nil {
		return User{}, false
	}
	return r.user(), true
}

func numbered(users map[string]*record, n int) *record {
	for _, r := range users {
		if r.Number == n {
			return r
		}
	}
	return nil
}

// freeNumber returns the lowest number that nobody has. There is one for each
// of MaxUsers users.
func freeNumber(users map[string]*record) int {
	for n := MinNumber; n <= MaxNumber; n++ {
		if numbered(users, n) == nil {
			return n
		}
	}
	return 0
}

// giveNumbers gives the users that have none, or another's, the lowest free ones
// in the order of their names, and keeps them. Records of releases that knew no
// numbers have none, and where such a release wrote a record again its number
// is gone.
func (a *Auth) giveNumbers(users map[string]*record) {
	var without []*record
	seen := map[int]bool{0: true}
	for _, name := range slices.Sorted(maps.Keys(users)) {
		r := users[name]
		if seen[r.Number] {
			r.Number = 0
			without = append(without, r)
		}
		seen[r.Number] = true
	}
	if len(without) == 0 {
		return
	}
	err := a.db.Update(func(tx store.Tx) error {
		for _, r := range without {
			if r.Number == 0 {
				r.Number = freeNumber(users)
			}
			raw, err := json.Marshal(r)
			if err != nil {
				return err
			}
			if err := tx.Put(userBucket, []byte(r.Name), raw); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		// The users must log in all the same, and the next start will give
		// the same numbers.
		a.log.Error("user numbers are not kept", "error", err)
	}
}
