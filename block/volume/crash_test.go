package volume

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/block"
)

// A change is one of a scenario.
type change struct {
	name string
	do   func(t *testing.T, w *watched) error
}

// scenario has all kinds of changes, each standing on those before.
func scenario() []change {
	create := func(r block.CreateRequest) change {
		return change{"create " + r.Name, func(t *testing.T, w *watched) error { _, err := w.Create(t.Context(), r); return err }}
	}
	write := func(name string, seed uint64, offset int64) change {
		return change{"write " + name, func(t *testing.T, w *watched) error {
			w.write(t, name, pattern(seed, 5120), offset)
			return nil
		}}
	}
	snapshot := func(of, name string) change {
		return change{"snapshot " + name, func(t *testing.T, w *watched) error {
			_, err := w.Snapshot(t.Context(), of, name)
			return err
		}}
	}
	inUse := func(c change) change {
		return change{c.name + " in use", func(t *testing.T, w *watched) error {
			name := "d"
			disk, release, err := w.Use(name)
			ok(t, err)
			defer release()
			before := make([]byte, disk.Size())
			ok(t, disk.Readv([][]byte{before}, 0))
			doErr := c.do(t, w)
			after := make([]byte, len(before))
			ok(t, disk.Readv([][]byte{after}, 0))
			if !bytes.Equal(before, after) {
				t.Errorf("%s: the disk reads differently after %v", c.name, doErr)
			}
			return doErr
		}}
	}
	del := func(name string) change {
		return change{"delete " + name, func(t *testing.T, w *watched) error { return w.Delete(t.Context(), name) }}
	}
	resize := func(size int64) change {
		return change{"resize", func(t *testing.T, w *watched) error { return w.Resize(t.Context(), "d", size) }}
	}
	merge := change{"merge", func(t *testing.T, w *watched) error { w.mergeAll(t.Context()); return nil }}
	return []change{
		create(block.CreateRequest{Name: "d", Size: 256 << 10}),
		write("d", 1, 0),
		resize(288 << 10),
		snapshot("d", "s1"),
		write("d", 2, 2048),
		inUse(snapshot("d", "s2")),
		write("d", 3, 8192),
		inUse(resize(384 << 10)),
		create(block.CreateRequest{Name: "c", Clone: "s2"}),
		write("c", 4, 1024),
		{"import", func(t *testing.T, w *watched) error {
			_, err := w.Import(t.Context(), block.ImportRequest{Name: "golden"}, bytes.NewReader(pattern(5, 64<<10)), nil)
			return err
		}},
		create(block.CreateRequest{Name: "g", Clone: "golden"}),
		{"export", func(t *testing.T, w *watched) error {
			return w.Export(t.Context(), "d", "raw", bytes.NewBuffer(nil), nil)
		}},
		merge,
		snapshot("d", "s3"),
		write("d", 6, 0),
		{"revert", func(t *testing.T, w *watched) error { return w.Revert(t.Context(), "d", "s3") }},
		del("s3"),
		inUse(merge), // an overlay absorbs an overlay
		del("s2"),    // d and c stand on it
		{"rename", func(t *testing.T, w *watched) error { return w.Rename(t.Context(), "c", "e") }},
		del("e"),
		merge,
		del("s1"),
		inUse(merge), // an overlay goes down into the raw file
		write("d", 7, 4096),
		del("g"),
		del("golden"),
		del("d"),
	}
}

// state is what a folder's volumes are and have, in words that can be compared.
func state(t *testing.T, w *watched) string {
	t.Helper()
	var b strings.Builder
	for _, i := range w.List() {
		if i.Failed != "" {
			t.Errorf("%s has failed: %s", i.Name, i.Failed)
			continue
		}
		sum := newDigest()
		sum.add(0, w.contents(t, i.Name))
		fmt.Fprintf(&b, "%s %s %s of %q base %q %d bytes %.8s\n", i.Name, i.UUID, i.Kind, i.Of, i.Base, i.Size, sum)
	}
	return b.String()
}

// clean has no layer that no volume needs, no file without a layer, and nothing
// half received.
func clean(t *testing.T, w *watched) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.incomingEmpty(t)
	needed := make(map[string]bool)
	stems := make(map[string]bool)
	w.Store.mu.Lock()
	defer w.Store.mu.Unlock()
	for _, v := range w.volumes {
		for id := v.desc.Layer; id != ""; id = w.layers[id].desc.Base {
			needed[id] = true
			stems[id] = true
			stems[w.layers[id].desc.Data] = true
		}
	}
	for id := range w.layers {
		if !needed[id] {
			t.Errorf("no volume needs the layer %s", id)
		}
	}
	for _, e := range must(os.ReadDir(filepath.Join(w.dir, "layers")))(t) {
		stem, suffix, _ := strings.Cut(e.Name(), ".")
		if !stems[stem] || suffix == "json" && w.layers[stem] == nil {
			t.Errorf("no layer needs the file %s", e.Name())
		}
	}
}

// TestCrash stops at each step of each change: as if killed there, and by an error
// of that step. Then the state is that before the change, or that after.
func TestCrash(t *testing.T) {
	dir := quickFolder(t)
	before := state(t, openAt(t, dir, nil))
	steps := make(map[string]int)
	for number, c := range scenario() {
		start := copyFolder(t, dir)
		// At each step, how the folder would be after a kill.
		var killed []string
		var at []string
		func() {
			w := openAt(t, dir, func(step string) error {
				killed = append(killed, copyFolder(t, dir))
				at = append(at, step)
				steps[step]++
				return nil
			})
			ok(t, c.do(t, w))
			ok(t, w.Close())
			w.edge = nil
		}()
		killed = append(killed, copyFolder(t, dir))
		at = append(at, "end")
		w := openAt(t, dir, nil)
		after := state(t, w)
		clean(t, w)
		ok(t, w.Close())
		if c.name == "create d" {
			// Its UUID is drawn anew each time.
			before = ""
		}
		for i, k := range killed {
			what := fmt.Sprintf("%d %s, killed at %d %s", number, c.name, i, at[i])
			// As if the power had failed at every other step: all writes were flushed.
			w := openBoot(t, k, []string{"b0071d", "another"}[i%2], nil)
			if got := state(t, w); got != before && got != after {
				t.Errorf("%s: got\n%swant\n%sor\n%s", what, got, before, after)
			}
			clean(t, w)
			w.mergeAll(t.Context())
			if got := state(t, w); got != before && got != after {
				t.Errorf("%s, merged: got\n%swant\n%sor\n%s", what, got, before, after)
			}
			clean(t, w)
			ok(t, w.Close())
		}
		for i := range at[:len(at)-1] {
			what := fmt.Sprintf("%d %s, failing at %d %s", number, c.name, i, at[i])
			folder := copyFolder(t, start)
			n := 0
			errStep := errors.New("a step failed")
			w := openAt(t, folder, func(string) error {
				if n++; n == i+1 {
					return errStep
				}
				return nil
			})
			err := c.do(t, w)
			w.edge = nil
			want := []string{before, after}
			if err != nil && !errors.Is(err, errStep) {
				t.Errorf("%s: got error %v, want %v", what, err, errStep)
			}
			if err != nil {
				want = want[:1]
			}
			got := withoutUUIDs(state(t, w))
			if !slices.ContainsFunc(want, func(s string) bool { return withoutUUIDs(s) == got }) {
				t.Errorf("%s: error %v, got\n%swant one of\n%s", what, err, got, strings.Join(want, "or\n"))
			}
			if err != nil {
				if err := c.do(t, w); err != nil {
					t.Errorf("%s: done again: %v", what, err)
				}
				if got := withoutUUIDs(state(t, w)); got != withoutUUIDs(after) {
					t.Errorf("%s: done again, got\n%swant\n%s", what, got, after)
				}
			}
			ok(t, w.Close())
			w = openAt(t, folder, nil)
			clean(t, w)
			ok(t, w.Close())
		}
		before = after
	}
	t.Logf("steps: %v", slices.Sorted(maps.Keys(steps)))
}

// withoutUUIDs takes the UUIDs out of a state, as a change that is made twice draws
// two.
func withoutUUIDs(state string) string {
	var b strings.Builder
	for line := range strings.Lines(state) {
		name, rest, _ := strings.Cut(line, " ")
		_, rest, _ = strings.Cut(rest, " ")
		b.WriteString(name + " " + rest)
	}
	return b.String()
}

// TestDamaged has each file of a folder damaged in turn: its volume fails, the
// others do not, nothing is deleted, and the volume can be.
func TestDamaged(t *testing.T) {
	made := t.TempDir()
	w := openAt(t, made, nil)
	w.image(t, "golden", pattern(1, 64<<10))
	w.create(t, block.CreateRequest{Name: "clone", Clone: "golden"})
	w.write(t, "clone", pattern(2, 4096), 0)
	w.create(t, block.CreateRequest{Name: "d", Size: 64 << 10})
	must(w.Snapshot(t.Context(), "d", "s"))(t)
	w.create(t, block.CreateRequest{Name: "other", Size: 64 << 10})
	w.write(t, "other", pattern(3, 4096), 0)
	ok(t, w.Close())
	files := []string{}
	for _, folder := range []string{"volumes", "layers"} {
		for _, e := range must(os.ReadDir(filepath.Join(made, folder)))(t) {
			files = append(files, filepath.Join(folder, e.Name()))
		}
	}
	for _, damage := range []struct {
		name string
		do   func(path string) error
	}{
		{"missing", os.Remove},
		{"empty", func(path string) error { return os.Truncate(path, 0) }},
		{"rubbish", func(path string) error { return os.WriteFile(path, []byte(`{"version":9}`), 0o600) }},
	} {
		for _, file := range files {
			if strings.HasSuffix(file, ".live") && damage.name != "missing" {
				continue // what cannot be read is not believed: the map counts, as after a loss of power
			}
			dir := copyFolder(t, made)
			ok(t, os.Chmod(filepath.Join(dir, file), 0o600))
			ok(t, damage.do(filepath.Join(dir, file)))
			before := len(must(os.ReadDir(filepath.Join(dir, "layers")))(t))
			w := openAt(t, dir, nil)
			sound, failed := 0, 0
			for _, i := range w.List() {
				_, release, err := w.Use(i.Name)
				if err != nil {
					failed++
					continue
				}
				release()
				sound++
			}
			description := strings.HasPrefix(file, "volumes")
			switch {
			case strings.HasSuffix(file, ".live"):
				if failed != 0 {
					t.Errorf("%s %s: %d volumes have failed, want none", file, damage.name, failed)
				}
				continue
			case description && damage.name == "missing":
				continue // deleted by somebody, as far as anyone can tell
			case failed == 0 || sound == 0:
				t.Errorf("%s %s: %d volumes are sound and %d have failed, want some of both", file, damage.name, sound, failed)
			}
			for range 2 {
				w.mergeAll(t.Context())
			}
			if after := len(must(os.ReadDir(filepath.Join(dir, "layers")))(t)); after < before {
				t.Errorf("%s %s: there were %d files of layers, now there are %d", file, damage.name, before, after)
			}
			if got := w.kinds(); !slices.Contains(got, "volume.failed") {
				t.Errorf("%s %s: got events %q, want one of a failure", file, damage.name, got)
			}
			// What has failed can be deleted, unless something stands on it; and then all
			// can be, and nothing is left.
			for range 2 {
				for _, i := range w.List() {
					if err := w.Delete(t.Context(), i.Name); err != nil && !errors.Is(err, ErrStandsOn) {
						t.Errorf("%s %s: deleting %s: %v", file, damage.name, i.Name, err)
					}
				}
			}
			ok(t, w.Close())
			w = openAt(t, dir, nil)
			if got := must(os.ReadDir(filepath.Join(dir, "layers")))(t); len(got) > 0 || len(w.List()) > 0 {
				t.Errorf("%s %s: deleted all, and %q and %v are left", file, damage.name, w.names(), got)
			}
			ok(t, w.Close())
		}
	}
}

func FuzzDecodeVolume(f *testing.F) {
	f.Add([]byte(`{"version":1,"uuid":"6a1ba1c4-96ea-4de7-a4a9-4d2bd0aa0d2a","kind":"disk","layer":"A","block_size":512,"physical_size":4096,"created":"2026-01-02T03:04:05Z"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := decodeVolume(text)
		if err != nil {
			return
		}
		again, err := encode(d)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeVolume(again); err != nil || got != d {
			t.Fatalf("got %+v, %v, want %+v", got, err, d)
		}
	})
}

func FuzzDecodeLayer(f *testing.F) {
	f.Add([]byte(`{"version":1,"format":"raw","data":"A","size":4096}`))
	f.Add([]byte(`{"version":1,"format":"cow","data":"B","size":4096,"base":"A"}`))
	f.Add([]byte(`{"version":1,"format":"nbd","size":4096,"upstream":"nbd://h/e","read_only":true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := decodeLayer(text)
		if err != nil {
			return
		}
		again, err := encode(d)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeLayer(again); err != nil || got != d {
			t.Fatalf("got %+v, %v, want %+v", got, err, d)
		}
	})
}
