package auth

import "testing"

// A login stands until what it rests on changes.
func TestStands(t *testing.T) {
	at := User{Name: "a", Role: Operator, Enabled: true, version: 3}
	for name, c := range map[string]struct {
		change func(*User)
		want   bool
	}{
		"nothing":  {func(*User) {}, true},
		"keys":     {func(u *User) { u.Keys = []string{"x"} }, true},
		"password": {func(u *User) { u.version++ }, false},
		"disabled": {func(u *User) { u.Enabled = false }, false},
		"role":     {func(u *User) { u.Role = ReadOnly }, false},
		"name":     {func(u *User) { u.Name = "b" }, false},
	} {
		now := at
		c.change(&now)
		if got := at.Stands(now); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
