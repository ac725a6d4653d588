package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) }) // a second Close is no error
	return s
}

// contents lists a bucket's pairs in order.
func contents(t *testing.T, s *Store, bucket string) []string {
	t.Helper()
	var list []string
	must(t, s.View(func(tx Tx) error {
		return tx.Each(bucket, func(k, v []byte) error {
			list = append(list, string(k)+"="+string(v))
			return nil
		})
	}))
	return list
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTransactions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := open(t, path)
	must(t, s.Update(func(tx Tx) error {
		for _, k := range []string{"b", "a", "c", "empty"} {
			v := k + k
			if k == "empty" {
				v = ""
			}
			if err := tx.Put("x", []byte(k), []byte(v)); err != nil {
				return err
			}
		}
		return tx.Put("y", []byte("a"), []byte("other"))
	}))
	want(t, contents(t, s, "x"), "a=aa", "b=bb", "c=cc", "empty=")
	want(t, contents(t, s, "absent"))

	stop := errors.New("stop")
	err := s.Update(func(tx Tx) error {
		if err := tx.Put("x", []byte("a"), []byte("undone")); err != nil {
			return err
		}
		if err := tx.Delete("x", []byte("b")); err != nil {
			return err
		}
		if got := tx.Get("x", []byte("a")); string(got) != "undone" {
			t.Errorf("within the transaction: got %q", got)
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Errorf("got error %v, want %v", err, stop)
	}
	want(t, contents(t, s, "x"), "a=aa", "b=bb", "c=cc", "empty=")

	must(t, s.Update(func(tx Tx) error {
		return errors.Join(tx.Delete("x", []byte("b")), tx.Delete("x", []byte("none")), tx.Delete("none", []byte("a")))
	}))
	must(t, s.View(func(tx Tx) error {
		for _, tt := range []struct {
			bucket, key string
			want        []byte
		}{{"x", "a", []byte("aa")}, {"x", "empty", []byte{}}, {"x", "b", nil}, {"none", "a", nil}} {
			got := tx.Get(tt.bucket, []byte(tt.key))
			if !bytes.Equal(got, tt.want) || (got == nil) != (tt.want == nil) {
				t.Errorf("Get(%s, %s): got %#v, want %#v", tt.bucket, tt.key, got, tt.want)
			}
		}
		if err := tx.Put("x", []byte("a"), nil); err == nil {
			t.Error("View took a Put")
		}
		return nil
	}))

	// Get's copy outlives the transaction and is the caller's own.
	var kept []byte
	must(t, s.View(func(tx Tx) error { kept = tx.Get("x", []byte("a")); return nil }))
	kept[0] = 'X'
	want(t, contents(t, s, "x"), "a=aa", "c=cc", "empty=")

	must(t, s.Close())
	want(t, contents(t, open(t, path), "x"), "a=aa", "c=cc", "empty=")
	if _, err := s.GetJSON("x", "a", new(int)); err == nil {
		t.Error("a closed store answered")
	}
}

func TestDeleteBelow(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"))
	const n = 3000 // several pages
	key := func(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }
	must(t, s.Update(func(tx Tx) error {
		for i := uint64(1); i <= n; i++ {
			if err := tx.Put("e", key(i), bytes.Repeat([]byte{'v'}, 50)); err != nil {
				return err
			}
		}
		return nil
	}))
	for _, tt := range []struct{ below, first, left uint64 }{{0, 1, n}, {1, 1, n}, {2, 2, n - 1}, {2000, 2000, n - 1999}, {n, n, 1}, {n + 1, 0, 0}, {7, 0, 0}} {
		must(t, s.Update(func(tx Tx) error {
			return errors.Join(tx.DeleteBelow("e", key(tt.below)), tx.DeleteBelow("none", key(tt.below)))
		}))
		var first, left uint64
		must(t, s.View(func(tx Tx) error {
			return tx.Each("e", func(k, _ []byte) error {
				if left++; first == 0 {
					first = binary.BigEndian.Uint64(k)
				}
				return nil
			})
		}))
		if first != tt.first || left != tt.left {
			t.Errorf("below %d: %d left from %d on, want %d from %d", tt.below, left, first, tt.left, tt.first)
		}
	}
}

func TestJSON(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s"))
	type value struct{ A int }
	var v value
	if ok, err := s.GetJSON("b", "k", &v); ok || err != nil {
		t.Errorf("nothing there: got %v, %v", ok, err)
	}
	must(t, s.PutJSON("b", "k", value{7}))
	if ok, err := s.GetJSON("b", "k", &v); !ok || err != nil || v.A != 7 {
		t.Errorf("got %+v, %v, %v", v, ok, err)
	}
	if err := s.PutJSON("b", "k", make(chan int)); err == nil || !strings.Contains(err.Error(), "b/k") {
		t.Errorf("a channel: got error %v, want one that names b/k", err)
	}
	if err := s.PutJSON("", "k", 1); err == nil {
		t.Error("a bucket without name was taken")
	}
	if ok, err := s.GetJSON("b", "k", new(string)); ok || err == nil || !strings.Contains(err.Error(), "b/k") {
		t.Errorf("another type: got %v, %v, want an error that names b/k", ok, err)
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	s := open(t, path)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the mode is %v, want 0600", info.Mode())
	}
	before := time.Now()
	if _, err := Open(path); !errors.Is(err, ErrInUse) || errors.Is(err, ErrDamaged) {
		t.Errorf("opened twice: got %v, want %v", err, ErrInUse)
	}
	if took := time.Since(before); took > 10*time.Second {
		t.Errorf("ErrInUse took %v", took)
	}
	must(t, s.Close())
	must(t, open(t, path).PutJSON("b", "k", 1))
	if _, err := Open(filepath.Join(dir, "none", "s")); !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrDamaged) {
		t.Errorf("no folder: got %v, want %v", err, os.ErrNotExist)
	}
	if _, err := Open(dir); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("a folder: got %v, want an error of the file system", err)
	}
}

// A damaged file is an error and no crash, and can be set aside.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	s := open(t, path)
	must(t, s.Update(func(tx Tx) error {
		for i := range 400 {
			if err := tx.Put("b", fmt.Append(nil, i), bytes.Repeat([]byte("x"), 100*(i%100))); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, s.Close())
	good, err := os.ReadFile(path)
	must(t, err)
	page := os.Getpagesize()
	check := func(name string, data []byte, mustFail bool) {
		t.Helper()
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, data, 0o600))
		s, err := Open(path)
		if err == nil {
			must(t, s.Close())
			if mustFail {
				t.Errorf("%s: was opened", name)
			}
			return
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want %v", name, err, ErrDamaged)
		}
		must(t, os.Rename(path, path+".bad"))
		must(t, open(t, path).PutJSON("b", "k", 1))
		must(t, os.Remove(path))
		must(t, os.Remove(path+".bad"))
	}
	check("whole", good, false)
	check("text", []byte("no store at all"), true)
	check("zeros", make([]byte, len(good)), true)
	check("short", good[:page], true)
	for n := 2 * page; n < len(good); n += 48 * page {
		// The file's end may be pages that nothing uses.
		check(fmt.Sprint("cut at ", n), good[:n], n < len(good)/2)
	}
	for n := 2 * page; n < len(good); n += 48 * page {
		for _, b := range []byte{0, 0xff} {
			data := bytes.Clone(good)
			for i := range page {
				data[n+i] = b
			}
			check(fmt.Sprintf("page at %d is %#x", n, b), data, false) // may be a value's inside
		}
	}
}

// childEnv holds the file that the test binary, run as the child of TestKilled,
// writes to.
const childEnv = "STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		fmt.Fprintln(os.Stderr, writeLoop(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeLoop writes pairs that belong together and says on standard output which
// have been written.
func writeLoop(path string) error {
	s, err := Open(path)
	if err != nil {
		return err
	}
	n := 0
	if _, err := s.GetJSON("a", "n", &n); err != nil {
		return err
	}
	for {
		n++
		err := s.Update(func(tx Tx) error {
			v := []byte(strconv.Itoa(n))
			return errors.Join(tx.Put("a", []byte("n"), v), tx.Put("b", []byte("n"), v),
				tx.Put("filler", fmt.Append(nil, n%50), bytes.Repeat([]byte("x"), n*7919%20_000)))
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	last := 0
	for range 4 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			t.Fatal("the child wrote nothing")
		}
		if _, err := Open(path); !errors.Is(err, ErrInUse) {
			t.Errorf("while the child has it open: got %v, want %v", err, ErrInUse)
		}
		kill := time.AfterFunc(100*time.Millisecond, func() {
			if err := cmd.Process.Kill(); err != nil {
				t.Errorf("killing the child: %v", err)
			}
		})
		for lines.Scan() {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				break // cut in its line
			}
			last = n
		}
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
			t.Fatalf("the child ended by itself: %v", err)
		}
		kill.Stop()
		s := open(t, path)
		var a, b int
		for bucket, v := range map[string]*int{"a": &a, "b": &b} {
			if ok, err := s.GetJSON(bucket, "n", v); !ok || err != nil {
				t.Fatalf("after a kill: %s: %v, %v", bucket, ok, err)
			}
		}
		if a != b || a < last || a > last+1 {
			t.Fatalf("after a kill: %d and %d, want both %d or one more", a, b, last)
		}
		must(t, s.Close())
	}
}

// TestPinned: a store that is locked into memory grows and is kept as any other.
func TestPinned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := OpenPinned(path)
	must(t, err)
	for i := range 40 {
		must(t, s.Update(func(tx Tx) error { return tx.Put("b", []byte{byte(i)}, make([]byte, 4096)) }))
	}
	locked, err := os.ReadFile("/proc/self/status")
	must(t, err)
	if bytes.Contains(locked, []byte("VmLck:\t       0 kB")) {
		t.Error("nothing is locked into memory")
	}
	must(t, s.Close())
	again := open(t, path)
	if got := len(contents(t, again, "b")); got != 40 {
		t.Errorf("got %d values, want 40", got)
	}
}
