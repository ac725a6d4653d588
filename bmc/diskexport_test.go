package bmc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/volume"
	"github.com/nitrino/nitrino/internal/ipc"
)

// An initiator is the least that RFC 7143 lets one be: one command at a time.
type initiator struct {
	net.Conn
	cmdSN, statSN, tag uint32
}

// login logs in to a target (section 11.12).
func login(at, target string) (*initiator, error) {
	c, err := net.Dial("tcp", at)
	if err != nil {
		return nil, err
	}
	i := &initiator{Conn: c}
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	text := "InitiatorName=iqn.2026-01.com.example:test\x00SessionType=Normal\x00TargetName=" + target + "\x00InitialR2T=No\x00ImmediateData=Yes\x00"
	// From the operational stage to full feature; the ISID is a random one.
	head := make([]byte, 48)
	head[0], head[1], head[8], head[9] = 0x43, 0x87, 0x80, 7
	answer, _, err := i.ask(head, []byte(text))
	if err == nil && (answer[0] != 0x23 || answer[36] != 0) {
		err = fmt.Errorf("login: got %x", answer)
	}
	return i, err
}

// ask sends a PDU and reads one.
func (i *initiator) ask(head, data []byte) (answer, got []byte, err error) {
	i.tag++
	head[7], head[6], head[5] = byte(len(data)), byte(len(data)>>8), byte(len(data)>>16)
	binary.BigEndian.PutUint32(head[16:], i.tag)
	binary.BigEndian.PutUint32(head[24:], i.cmdSN)
	binary.BigEndian.PutUint32(head[28:], i.statSN+1)
	if _, err := i.Write(append(append(head, data...), make([]byte, -len(data)&3)...)); err != nil {
		return nil, nil, err
	}
	answer = make([]byte, 48)
	if _, err := io.ReadFull(i, answer); err != nil {
		return nil, nil, err
	}
	n := int(answer[5])<<16 | int(answer[6])<<8 | int(answer[7])
	got = make([]byte, (n+3)&^3)
	_, err = io.ReadFull(i, got)
	i.statSN = binary.BigEndian.Uint32(answer[24:])
	return answer, got[:n], err
}

// command sends a SCSI command (section 11.3) that reads length bytes or writes data.
func (i *initiator) command(cdb []byte, data []byte, length int) (status byte, got []byte, err error) {
	head := make([]byte, 48)
	head[0], head[1] = 0x01, 0x80
	switch {
	case data != nil:
		head[1] |= 0x20
		length = len(data)
	case length > 0:
		head[1] |= 0x40
	}
	binary.BigEndian.PutUint32(head[20:], uint32(length))
	copy(head[32:], cdb)
	answer, got, err := i.ask(head, data)
	i.cmdSN++
	if err == nil && answer[0] != 0x21 && answer[0] != 0x25 {
		err = fmt.Errorf("command %x: got %x", cdb, answer)
	}
	if err != nil {
		return 0, nil, err
	}
	if len(got) > 4 && answer[3] == 0x02 && got[4]&0x0F == 6 {
		return i.command(cdb, data, length) // a unit attention, as after a change of the size
	}
	return answer[3], got, nil
}

// check writes a block of 4 KiB and reads it back.
func (i *initiator) check(n int) error {
	want := bytes.Repeat([]byte{byte(n), byte(n >> 8)}, 2048)
	at := byte(n % 100 * 8)
	if status, _, err := i.command([]byte{0x2A, 0, 0, 0, 0, at, 0, 0, 8, 0}, want, 0); err != nil || status != 0 {
		return cmp.Or(err, fmt.Errorf("write %d: status %#x", n, status))
	}
	status, got, err := i.command([]byte{0x28, 0, 0, 0, 0, at, 0, 0, 8, 0}, nil, 4096)
	if err != nil || status != 0 || !bytes.Equal(got, want) {
		return cmp.Or(err, fmt.Errorf("read %d: status %#x, %d bytes", n, status, len(got)))
	}
	return nil
}

// TestCoresComeAndGo: what an initiator reads and writes does not depend on core,
// however often that is killed, nor on what it tells again.
func TestCoresComeAndGo(t *testing.T) {
	r := newDiskRig(t)
	dir := t.TempDir()
	d, stop := openDisk(t, "one", dir)
	defer stop()
	die := r.join(d)
	r.await("joined", r.Up)
	if err := r.set.Set("volumes", `[{"name":"a","size":1048576}]`); err != nil {
		t.Fatal(err)
	}
	if err := r.PutTarget(t.Context(), TargetOf("a"), testOrigin()); err != nil {
		t.Fatal(err)
	}
	if err := r.set.Set("iscsi.enabled", "true"); err != nil {
		t.Fatal(err)
	}
	r.await("it is exported", func() bool {
		f := r.Served()
		return r.State().Health.ISCSI != "" && len(f) == 1 && f[0].Failed == ""
	})
	i, err := login(r.State().Health.ISCSI, TargetName("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	r.await("the session is told", func() bool { return len(r.Sessions()) == 1 })
	first := r.Sessions()[0]
	if first.Target != TargetName("a") || len(first.Volumes) != 1 || first.Volumes[0] != "a" {
		t.Errorf("got the session %+v", first)
	}
	if err := r.Revert(t.Context(), "a", "a1", testOrigin()); err == nil || !strings.Contains(err.Error(), "iqn.2026-01.com.example:test") {
		t.Errorf("revert under an initiator: got %v, want who is logged in", err)
	}
	ctx, end := context.WithCancel(t.Context())
	var io sync.WaitGroup
	done := 0
	io.Go(func() {
		for ; ctx.Err() == nil; done++ {
			if err := i.check(done); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 20 {
		die()
		r.await("core is gone", func() bool { return !r.Up() })
		die = r.join(d)
		r.await("the next core", r.Up)
		if s := r.Sessions(); len(s) != 1 || !s[0].Since.Equal(first.Since) {
			t.Fatalf("got the sessions %+v, want %+v", s, first)
		}
	}
	if err := r.Resize(t.Context(), "a", 2<<20, testOrigin()); err != nil {
		t.Error(err)
	}
	end()
	io.Wait()
	if done < 20 {
		t.Errorf("got %d blocks written and read, want more", done)
	}
	// The disk process is killed: what follows knows what to export, without core.
	die()
	i.Close()
	stop()
	again, stop := openDisk(t, "two", dir)
	defer stop()
	r.await("it listens without a core", func() bool { return again.iscsi.address() != "" })
	if i, err = login(again.iscsi.address(), TargetName("a")); err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if err := i.check(done); err != nil {
		t.Error(err)
	}
}

// TestTargetLeaves: a target that is taken away keeps its disk until its initiators
// have left.
func TestTargetLeaves(t *testing.T) {
	r := newDiskRig(t)
	d := r.start()
	if _, err := r.Create(t.Context(), block.CreateRequest{Name: "a", Size: 1 << 20}, testOrigin()); err != nil {
		t.Fatal(err)
	}
	if err := r.set.Set("iscsi.enabled", "true"); err != nil {
		t.Fatal(err)
	}
	if err := r.PutTarget(t.Context(), TargetOf("a"), testOrigin()); err != nil {
		t.Fatal(err)
	}
	r.await("it listens", func() bool { return r.State().Health.ISCSI != "" })
	i, err := login(r.State().Health.ISCSI, TargetName("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	r.await("the session is told", func() bool { return len(r.Sessions()) == 1 })
	if err := r.DeleteTarget(t.Context(), TargetName("a"), testOrigin()); err != nil {
		t.Fatal(err)
	}
	d.iscsi.applying <- struct{}{}
	units := len(d.iscsi.units)
	<-d.iscsi.applying
	if units != 1 {
		t.Errorf("got %d units right after, want the one that may still be written to", units)
	}
	i.Close()
	r.await("the volume is free", func() bool { return r.Delete(t.Context(), "a", testOrigin()) == nil })
}

// TestRevocation: who may not go on is sent away, and the port is closed, while
// storage does not answer and changes of what is exported wait for it.
func TestRevocation(t *testing.T) {
	d, stop := openDisk(t, "one", t.TempDir())
	defer stop()
	if _, err := d.volumes.Create(t.Context(), block.CreateRequest{Name: "a", Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	await := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not after 20 s: %s", what)
			}
		}
	}
	target := TargetOf("a")
	if err := d.iscsi.set(true, []block.Target{target}); err != nil {
		t.Fatal(err)
	}
	await("it listens", func() bool { return d.iscsi.address() != "" })
	at := d.iscsi.address()
	i, err := login(at, target.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	await("the session is there", func() bool { return len(d.iscsi.sessions()) == 1 })

	d.iscsi.applying <- struct{}{}
	letGo := sync.OnceFunc(func() { <-d.iscsi.applying })
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer letGo()
	set := func(enabled bool, targets ...block.Target) {
		tasks.Go(func() {
			if err := d.iscsi.set(enabled, targets); err != nil {
				t.Error(err)
			}
		})
	}
	others := target
	others.Initiators = []string{"iqn.2026-01.com.example:other"}
	set(true, others)
	head := make([]byte, 48)
	if _, err := io.ReadFull(i, head); err != nil || head[0] != 0x32 || head[36] != 1 {
		t.Errorf("got %x, %v, want to be asked to log out (RFC 7143 section 11.9.1)", head, err)
	}
	if o, err := login(at, target.Name); err == nil {
		t.Error("logged in to a target that is others'")
		o.Close()
	}
	set(false)
	if _, err := io.Copy(io.Discard, i); err != nil {
		t.Errorf("got %v, want the end of the connection", err)
	}
	await("the port is closed", func() bool {
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	letGo()
	tasks.Wait()
	if got := d.iscsi.served(); len(got) != 0 {
		t.Errorf("got %+v, want nothing served", got)
	}
}

// TestRevocationOfMany: a target is taken away though other requests have all places.
func TestRevocationOfMany(t *testing.T) {
	r := newDiskRig(t)
	d := r.newDisk("one", t.TempDir())
	r.retry = time.Hour
	r.join(d)
	r.await("joined", r.Up)
	if err := r.set.Set("iscsi.enabled", "true"); err != nil {
		t.Fatal(err)
	}
	if err := r.PutTarget(t.Context(), TargetOf("a"), testOrigin()); err != nil {
		t.Fatal(err)
	}
	r.await("it is served", func() bool { return len(d.iscsi.served()) == 1 })
	for range cap(d.slots) {
		d.slots <- struct{}{}
	}
	if err := r.DeleteTarget(t.Context(), TargetName("a"), testOrigin()); err != nil {
		t.Error(err)
	}
	if got := d.iscsi.served(); len(got) != 0 {
		t.Errorf("got %+v, want nothing served", got)
	}
}

// TestTargetsOrder: of changes that wait for nobody any more the last one that came
// counts, in whatever order they are done.
func TestTargetsOrder(t *testing.T) {
	d, stop := openDisk(t, "one", t.TempDir())
	defer stop()
	here, there := pair(t)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer there.Close()
	tasks.Go(func() {
		here.Run(t.Context(), func(context.Context, ipc.Message, *os.File) (any, error) { return nil, nil })
	})
	s := &diskConn{Disk: d, conn: there,
		volumes: newTeller(diskVolumes, volumeKey), sessions: newTeller(diskSessions, sessionKey),
		jobs: newTeller(diskJobs, jobKey), served: newTeller(diskServed, servedKey)}
	take := func(targets ...block.Target) ipc.Later {
		t.Helper()
		body, err := json.Marshal(targetsMessage{First: true, Enabled: true, List: targets})
		if err != nil {
			t.Fatal(err)
		}
		later, err := s.takeTargets(ipc.Message{Type: diskTargets, ID: 1, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		return later.(ipc.Later)
	}
	first, last := take(TargetOf("a")), take()
	if _, err := last(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := first(t.Context()); !errors.Is(err, errBusy) {
		t.Errorf("the one before: got %v, want %v", err, errBusy)
	}
	if got := d.iscsi.served(); len(got) != 0 {
		t.Errorf("got %+v, want nothing served", got)
	}
}

// A silentDisk is on a server that answers once, and then not any more.
type silentDisk struct{ block.Device }

func (silentDisk) Size() int64  { return 1 << 20 }
func (silentDisk) Close() error { return nil }

// TestExportsSilent: targets whose server is silent all wait for it at the same time.
func TestExportsSilent(t *testing.T) { synctest.Test(t, testExportsSilent) }

func testExportsSilent(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	var silent bool
	volumes, err := volume.Open(volume.Options{Dir: filepath.Join(t.TempDir(), diskStore), BootID: "boot", Log: log,
		Dial: func(ctx context.Context, _ string, _ func(error)) (block.Device, error) {
			if !silent {
				return silentDisk{}, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	if err != nil {
		t.Fatal(err)
	}
	var targets []block.Target
	for i := range 16 {
		name := fmt.Sprint("v", i)
		if _, err := volumes.Create(t.Context(), block.CreateRequest{Name: name, Upstream: "nbd://192.0.2.1/" + name}); err != nil {
			t.Fatal(err)
		}
		targets = append(targets, TargetOf(name))
	}
	silent = true
	e, err := openExports(exportsOptions{Dir: t.TempDir(), Volumes: volumes, Log: log, Report: func(Event) {}, Changed: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := e.set(true, targets); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took == 0 || took > 10*time.Second {
		t.Errorf("%d targets: got them exported after %v, want the time for one", len(targets), took)
	}
	if len(e.units) != len(targets) || e.missing {
		t.Errorf("got %d units, %+v, want %d", len(e.units), e.served(), len(targets))
	}
	e.close()
	if err := volumes.Close(); err != nil {
		t.Error(err)
	}
}

// TestUnitsEnd: a volume is not given up while commands on it have not ended; that
// holds up nothing else.
func TestUnitsEnd(t *testing.T) {
	d, stop := openDisk(t, "one", t.TempDir())
	defer stop()
	if _, err := d.volumes.Create(t.Context(), block.CreateRequest{Name: "a", Size: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := d.iscsi.set(true, []block.Target{TargetOf("a")}); err != nil {
		t.Fatal(err)
	}
	last := make(chan struct{})
	d.iscsi.applying <- struct{}{}
	d.iscsi.endLimit = 10 * time.Millisecond
	d.iscsi.ends = append(d.iscsi.ends, last)
	<-d.iscsi.applying
	if err := d.iscsi.without("a", func() error { t.Error("called"); return nil }); !errors.Is(err, errWaiting) {
		t.Errorf("a change to the volume: got %v, want %v", err, errWaiting)
	}
	if err := d.iscsi.set(true, nil); err != nil {
		t.Errorf("no targets: %v", err)
	}
	if err := d.volumes.Delete(t.Context(), "a"); !errors.Is(err, volume.ErrInUse) {
		t.Errorf("deleting the volume: got %v, want %v", err, volume.ErrInUse)
	}
	close(last)
	d.iscsi.apply()
	if err := d.volumes.Delete(t.Context(), "a"); err != nil {
		t.Errorf("deleting it when all has ended: %v", err)
	}
}

// TestOpenTarget: people are told, once, of a target that anybody may use.
func TestOpenTarget(t *testing.T) {
	var told []string
	e := &exports{opt: exportsOptions{Report: func(e Event) { told = append(told, e.Kind+" "+e.Message) }}}
	open, closed := TargetOf("a"), TargetOf("b")
	closed.CHAP = block.Credentials{User: "u", Secret: "123456789012"}
	for _, tt := range []struct {
		targets []block.Target
		want    int
	}{
		{[]block.Target{closed}, 0}, {[]block.Target{open, closed}, 1}, {[]block.Target{closed, open}, 1},
		{[]block.Target{{Name: open.Name, LUNs: open.LUNs, Initiators: []string{"iqn.2026-01.com.example:a"}}}, 1}, {[]block.Target{open}, 2},
	} {
		if e.tellOpen(tt.targets); len(told) != tt.want {
			t.Errorf("%+v: told %q, want %d", tt.targets, told, tt.want)
		}
	}
	if got := told[0]; !strings.HasPrefix(got, "iscsi.open ") || !strings.Contains(got, open.Name) {
		t.Errorf("got %q, want the target's name", got)
	}
}
