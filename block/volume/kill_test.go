package volume

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nitrino/nitrino/block"
)

// killEnv holds the folder that the test binary, run as the child of TestKill, keeps
// its volumes in, and killRoundEnv which round it is.
const (
	killEnv      = "NITRINO_VOLUME_TEST_DIR"
	killRoundEnv = "NITRINO_VOLUME_TEST_ROUND"
)

const (
	killGolden  = 2 * mib
	killSize    = 3 * mib
	killWriters = 4
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		fmt.Fprintln(os.Stderr, killChild(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A line is what a child tells: that it begins to write a sector, or that it has.
type line struct {
	what   byte // 'b' or 'e'
	sector uint32
	tag    uint64
}

// lineLen is a line's length, in bytes.
const lineLen = 13

func (l line) encode() []byte {
	b := binary.LittleEndian.AppendUint32([]byte{l.what}, l.sector)
	return binary.LittleEndian.AppendUint64(b, l.tag)
}

func decodeLine(b []byte) line {
	return line{b[0], binary.LittleEndian.Uint32(b[1:]), binary.LittleEndian.Uint64(b[5:])}
}

// fill has a sector say who wrote it.
func (l line) fill(b []byte) {
	for i := 0; i < block.SectorSize; i += 16 {
		binary.LittleEndian.PutUint64(b[i:], l.tag)
		binary.LittleEndian.PutUint64(b[i+8:], uint64(l.sector)+1)
	}
}

// killChild writes to a disk, takes snapshots of it and gives them up, until it is
// killed.
func killChild(dir string) error {
	round, err := strconv.ParseUint(os.Getenv(killRoundEnv), 10, 32)
	if err != nil {
		return err
	}
	s, err := Open(Options{Dir: dir, BootID: "b0071d", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	disk, _, err := s.Use("d")
	if err != nil {
		return err
	}
	errs := make(chan error)
	go func() { errs <- s.Run(context.Background()) }() // all until the process ends
	go func() { errs <- killSnapshots(s) }()
	var out sync.Mutex
	tell := func(l line) error {
		out.Lock()
		defer out.Unlock()
		_, err := os.Stdout.Write(l.encode())
		return err
	}
	for w := range uint32(killWriters) {
		go func() { errs <- killWriter(disk, w, round, tell) }()
	}
	return <-errs
}

// killWriter writes sectors of its own, in the same clusters as the others.
func killWriter(disk *block.Disk, w uint32, round uint64, tell func(line) error) error {
	b := make([]byte, block.SectorSize)
	for n := uint64(1); ; n++ {
		l := line{'b', rand.Uint32N(killSize/block.SectorSize/killWriters)*killWriters + w, round<<32 | n}
		l.fill(b)
		if err := tell(l); err != nil {
			return err
		}
		if err := disk.Writev([][]byte{b}, int64(l.sector)*block.SectorSize, n%64 == 0); err != nil {
			return err
		}
		l.what = 'e'
		if err := tell(l); err != nil {
			return err
		}
	}
}

func killSnapshots(s *Store) error {
	ctx := context.Background()
	for {
		if err := s.Delete(ctx, "snapshot"); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		time.Sleep(rand.N(10 * time.Millisecond)) // for the merge
		if _, err := s.Snapshot(ctx, "d", "snapshot"); err != nil {
			return err
		}
	}
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

// TestKill kills a process that writes to a disk, at any moment of it, again and
// again: what it was told to be written is there, and the image is as it was.
func TestKill(t *testing.T) {
	golden := pattern(1, killGolden)
	t.Run("clone", func(t *testing.T) {
		was := append(bytes.Clone(golden), make([]byte, killSize-killGolden)...)
		kills(t, golden, block.CreateRequest{Name: "d", Clone: "golden", Size: killSize}, was)
	})
	t.Run("raw", func(t *testing.T) {
		kills(t, golden, block.CreateRequest{Name: "d", Size: killSize}, make([]byte, killSize))
	})
}

// kills does so with a disk that has at first what was has.
func kills(t *testing.T, golden []byte, r block.CreateRequest, was []byte) {
	dir := quickFolder(t)
	w := openAt(t, dir, nil)
	w.image(t, "golden", golden)
	w.create(t, r)
	ok(t, w.Close())
	var written int
	for round := range rounds(t) {
		told := killOnce(t, dir, round+1)
		begun := make(map[uint32][]line) // since what is in was
		for _, l := range told {
			if l.what == 'b' {
				begun[l.sector] = append(begun[l.sector], l)
				continue
			}
			l.fill(was[int(l.sector)*block.SectorSize:][:block.SectorSize])
			begun[l.sector] = nil
			written++
		}
		w := openAt(t, dir, nil)
		got := w.contents(t, "d")
		for at := 0; at < killSize; at += block.SectorSize {
			is, want := got[at:at+block.SectorSize], was[at:at+block.SectorSize]
			for _, l := range begun[uint32(at/block.SectorSize)] {
				if b := make([]byte, block.SectorSize); !bytes.Equal(is, want) {
					if l.fill(b); bytes.Equal(is, b) {
						copy(want, b)
					}
				}
			}
			if !bytes.Equal(is, want) {
				t.Fatalf("round %d: sector %d is %x…, want %x…", round, at/block.SectorSize, is[:16], want[:16])
			}
		}
		ok(t, w.Verify(t.Context(), "golden"))
		w.same(t, "golden", golden)
		clean(t, w)
		ok(t, w.Close())
	}
	t.Logf("%d writes were acknowledged", written)
	if written == 0 {
		t.Error("nothing was written")
	}
}

// killOnce runs a child for a while, and gives what it has told.
func killOnce(t *testing.T, dir string, round int) []line {
	t.Helper()
	self := must(os.Executable())(t)
	child := exec.Command(self)
	child.Env = append(os.Environ(), killEnv+"="+dir, killRoundEnv+"="+strconv.Itoa(round))
	var failed bytes.Buffer
	child.Stderr = &failed
	pipe := must(child.StdoutPipe())(t)
	ok(t, child.Start())
	var list []line
	in := bufio.NewReader(pipe)
	for {
		var b [lineLen]byte
		if _, err := io.ReadFull(in, b[:]); err != nil {
			break // it was killed, or Wait tells why not
		}
		if len(list) == 0 { // from the first write on
			timer := time.AfterFunc(rand.N(60*time.Millisecond), func() { _ = child.Process.Kill() }) // it may have ended: Wait tells
			defer timer.Stop()
		}
		list = append(list, decodeLine(b[:]))
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the child ended by itself: %v: %s", err, &failed)
	}
	return list
}
