package cow

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/raw"
)

// childEnv holds the folder that the test binary, run as the child of TestKill,
// writes in, and roundEnv which round it is.
const (
	childEnv = "NITRINO_COW_TEST_DIR"
	roundEnv = "NITRINO_COW_TEST_ROUND"
)

const (
	killSize    = 24 << 20
	killBase    = 16 << 20
	killWriters = 4
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, killChild(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func killOpen(dir string) (v *Overlay, done func() error, err error) {
	base, err := raw.Open(filepath.Join(dir, "base"), killBase, true)
	if err != nil {
		return nil, nil, err
	}
	v, err = Open(filepath.Join(dir, "v"), Options{Base: base, Size: killSize, BootID: bootID})
	if err != nil {
		return nil, nil, errors.Join(err, base.Close())
	}
	return v, func() error { return errors.Join(v.Close(), base.Close()) }, nil
}

// killChild writes until it is killed. Its writers have sectors of their own, in the
// same clusters; each tells what it begins and what has returned.
func killChild(dir string) error {
	round, err := strconv.Atoi(os.Getenv(roundEnv))
	if err != nil {
		return err
	}
	v, _, err := killOpen(dir)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	tell := func(what byte, sector, count int64, g tag) error {
		b := []byte{what}
		b = binary.LittleEndian.AppendUint32(b, uint32(sector))
		b = binary.LittleEndian.AppendUint32(b, uint32(count))
		b = binary.LittleEndian.AppendUint32(b, uint32(g))
		mu.Lock()
		defer mu.Unlock()
		_, err := os.Stdout.Write(b)
		return err
	}
	errs := make(chan error)
	for w := range int64(killWriters) {
		go func() { // until the process ends
			rnd := rand.New(rand.NewPCG(rand.Uint64(), uint64(w)))
			for n := tag(1); ; n++ {
				g := n<<2 | tag(w) | tag(round)<<20
				sector := (rnd.Int64N(killSize/block.SectorSize/16)*4 + w) * 4
				count := 1 + rnd.Int64N(4)
				if err := tell('b', sector, count, g); err != nil {
					errs <- err
				}
				b := make([]byte, count*block.SectorSize)
				for i := range count {
					g.fill(b[i*block.SectorSize:][:block.SectorSize], sector+i)
				}
				err := v.Writev([][]byte{b}, sector*block.SectorSize)
				if err == nil && n%512 == 0 {
					err = v.Flush()
				}
				if err == nil {
					err = tell('e', sector, count, g)
				}
				if err != nil {
					errs <- err
				}
			}
		}()
	}
	return <-errs
}

// rounds is how many kills a test does: 5, or as many as SOAK says.
func rounds(t *testing.T) int {
	text := os.Getenv("SOAK")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("SOAK=%q: want a number of rounds", text)
	}
	return n
}

// Whenever a process is killed, all that it acknowledged is there, and the base
// unchanged.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	content := make([]byte, killBase)
	for s := int64(0); s < killBase/block.SectorSize; s++ {
		golden.fill(content[s*block.SectorSize:][:block.SectorSize], s)
	}
	if err := os.WriteFile(filepath.Join(dir, "base"), content, 0o400); err != nil {
		t.Fatal(err)
	}
	if err := Create(filepath.Join(dir, "v"), killSize); err != nil {
		t.Fatal(err)
	}
	now := make([]tag, killSize/block.SectorSize)
	for s := range killBase / block.SectorSize {
		now[s] = golden
	}
	sum := 0
	for round := range rounds(t) {
		begun := make(map[int64]tag)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir, roundEnv+"="+strconv.Itoa(round%1000))
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(out)
		var timer *time.Timer
		acknowledged := 0
		for {
			var b [13]byte
			if _, err := io.ReadFull(r, b[:]); err != nil {
				break
			}
			if timer == nil { // it has begun
				timer = time.AfterFunc(time.Duration(rand.Int64N(int64(60*time.Millisecond))), func() { _ = cmd.Process.Kill() })
			}
			sector, g := int64(binary.LittleEndian.Uint32(b[1:])), tag(binary.LittleEndian.Uint32(b[9:]))
			for s := sector; s < sector+int64(binary.LittleEndian.Uint32(b[5:])); s++ {
				if b[0] == 'b' {
					begun[s] = g
				} else {
					now[s] = g
					delete(begun, s)
					acknowledged++
				}
			}
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() >= 0 {
			t.Fatalf("the child ended by itself: %v", err)
		}
		if timer == nil {
			t.Fatal("the child wrote nothing")
		}
		sum += acknowledged
		v, done, err := killOpen(dir)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, killSize)
		if err := errors.Join(v.Readv([][]byte{got}, 0), done()); err != nil {
			t.Fatal(err)
		}
		for s := range now {
			g, ok := tagOf(got[s*block.SectorSize:][:block.SectorSize], int64(s))
			if also, flying := begun[int64(s)]; ok && (g == now[s] || flying && g == also) {
				now[s] = g
				continue
			}
			t.Fatalf("round %d: sector %d has %#x (%t), want %#x or %#x", round, s, g, ok, now[s], begun[int64(s)])
		}
	}
	t.Logf("%d sectors acknowledged", sum)
	got, err := os.ReadFile(filepath.Join(dir, "base"))
	if err != nil || string(got) != string(content) {
		t.Errorf("the base was changed (%v)", err)
	}
}
