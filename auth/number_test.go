package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/internal/store"
)

// numbers says who has which: "2 root, 3 bob".
func (b *bench) numbers() string {
	var all []string
	for n := range 70 {
		if u, ok := b.ByNumber(n - 1); ok {
			if u.Number != n-1 {
				b.t.Errorf("ByNumber(%d) answers %s, who has number %d", n-1, u.Name, u.Number)
			}
			all = append(all, fmt.Sprint(u.Number, " ", u.Name))
		}
	}
	return strings.Join(all, ", ")
}

func TestNumbers(t *testing.T) {
	b := newBench(t)
	b.create("root", Administrator)
	b.create("zoe", ReadOnly)
	b.create("ann", ReadOnly)
	for _, c := range []struct {
		what string
		do   func() error
		err  error
		want string
	}{
		{"the order of creation", func() error { return nil }, nil, "2 root, 3 zoe, 4 ann"},
		{"a chosen one", func() error { return b.Create(User{Name: "max", Role: ReadOnly, Number: 17}, "", boss) }, nil, "2 root, 3 zoe, 4 ann, 17 max"},
		{"one that is taken", func() error { return b.Create(User{Name: "eve", Role: ReadOnly, Number: 3}, "", boss) }, ErrExists, "2 root, 3 zoe, 4 ann, 17 max"},
		{"the anonymous user's", func() error { return b.Create(User{Name: "eve", Role: ReadOnly, Number: 1}, "", boss) }, ErrInvalid, "2 root, 3 zoe, 4 ann, 17 max"},
		{"one too high", func() error { return b.Create(User{Name: "eve", Role: ReadOnly, Number: 18}, "", boss) }, ErrInvalid, "2 root, 3 zoe, 4 ann, 17 max"},
		{"one less", func() error { return b.Delete("zoe", boss) }, nil, "2 root, 4 ann, 17 max"},
		{"another name", func() error { return b.Rename("ann", "zora", boss) }, nil, "2 root, 4 zora, 17 max"},
		{"the lowest free one", func() error { return b.Create(User{Name: "eve", Role: ReadOnly}, "", boss) }, nil, "2 root, 3 eve, 4 zora, 17 max"},
	} {
		if err := c.do(); !errors.Is(err, c.err) {
			t.Errorf("%s: got error %v, want %v", c.what, err, c.err)
		}
		for _, when := range []string{"", ", after a restart"} {
			if got := b.numbers(); got != c.want {
				t.Errorf("%s%s: got %s, want %s", c.what, when, got, c.want)
			}
			b.reopen(testKey)
		}
	}
}

// TestNumbersOfOldRecords: records that have no number, one that cannot be, or
// one that another user has get theirs at load, and keep them.
func TestNumbersOfOldRecords(t *testing.T) {
	b := newBench(t)
	for name, rest := range map[string]string{
		"root": `,"enabled":true`,
		"ann":  `,"number":3`,
		"bob":  `,"number":3`,
		"cleo": `,"number":-7`,
		"dan":  `,"number":18`,
	} {
		role := ReadOnly
		if name == "root" {
			role = Administrator
		}
		raw := fmt.Sprintf(`{"name":%q,"role":%q%s}`, name, role, rest)
		if err := b.db.Update(func(tx store.Tx) error { return tx.Put(userBucket, []byte(name), []byte(raw)) }); err != nil {
			t.Fatal(err)
		}
	}
	const want = "2 bob, 3 ann, 4 cleo, 5 dan, 6 root"
	for _, when := range []string{"at first", "after a restart"} {
		b.reopen(testKey)
		if got := b.numbers(); got != want {
			t.Errorf("%s: got %s, want %s", when, got, want)
		}
	}
	if err := b.Delete("bob", boss); err != nil {
		t.Fatal(err)
	}
	b.reopen(testKey)
	if got, want := b.numbers(), "3 ann, 4 cleo, 5 dan, 6 root"; got != want {
		t.Errorf("after a change: got %s, want %s", got, want)
	}
}

// TestNumbersWithoutDisk: a store that takes nothing keeps nobody out.
func TestNumbersWithoutDisk(t *testing.T) {
	b := newBench(t)
	users := map[string]*record{"a": {Name: "a"}, "b": {Name: "b", Number: 2}}
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	b.giveNumbers(users)
	if users["b"].Number != 2 {
		t.Errorf("b has number %d, want 2", users["b"].Number)
	}
}
