package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nitrino/nitrino/bmc"
	"github.com/nitrino/nitrino/internal/ipc"
)

// The test binary is its own children: these variables say which, and where it
// notes what it sees, a line each.
const (
	childEnv = "UINIT_TEST_CHILD"
	notesEnv = "UINIT_TEST_NOTES"
)

func TestMain(m *testing.M) {
	name := os.Getenv(childEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := beChild(ctx, name, os.NewFile(3, "parent"))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

// patience is how long is waited for what has to come: on a machine that has much
// else to do, under the race detector, a start takes seconds.
const patience = time.Minute

// jot appends a line to the notes.
func jot(format string, args ...any) error {
	f, err := os.OpenFile(os.Getenv(notesEnv), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, format+"\n", args...)
	return errors.Join(err, f.Close())
}

// beChild is a child process, most of them with a fault.
func beChild(ctx context.Context, name string, parent *os.File) error {
	if err := jot("start %s %d %d", name, os.Getpid(), time.Now().UnixMilli()); err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	switch name {
	case "disk":
		return runDisk(ctx, parent, "127.0.0.1:0", log)
	case "real core":
		f, err := os.OpenFile(os.Getenv(notesEnv), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		c := newCore(slog.New(newKmsg(f, "core"))) // open until the end
		c.run.Address, c.run.HTTPS, c.run.SSH, c.run.IPMI = "127.0.0.1", 0, 0, 0
		c.run.SetHostName = func(name string) error { return jot("host name %s", name) }
		c.writable = func(f func() error) error { return f() }
		return c.main(ctx, parent)
	case "core":
		return (&testCore{}).main(ctx, parent)
	case "crash":
		return errors.New("crashed")
	case "crash twice":
		text, err := os.ReadFile(os.Getenv(notesEnv))
		if err != nil {
			return err
		}
		if strings.Count(string(text), "start crash twice") <= 2 {
			panic("not yet")
		}
		return (&testCore{}).main(ctx, parent)
	case "silent":
		l, err := newLink(parent)
		if err != nil {
			return err
		}
		return l.conn.Run(context.Background(), l.handle)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		return (&testCore{}).main(context.Background(), parent)
	case "reboot":
		return (&testCore{reboot: "0 tryboot"}).main(ctx, parent)
	case "garbage":
		c, err := ipc.New(parent)
		if err != nil {
			return err
		}
		if err := c.Tell("nonsense", nil, nil); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	return fmt.Errorf("no child %q", name)
}

// A testCore notes what the parent and disk tell it.
type testCore struct {
	reboot string // what it asks for
	link   *link
}

func (c *testCore) main(ctx context.Context, parent *os.File) (err error) {
	if c.link, err = newLink(parent); err != nil {
		return err
	}
	c.link.event = func(_ context.Context, m ipc.Message) error {
		var e bmc.Event
		if err := m.Into(&e); err != nil {
			return err
		}
		return jot("event %s %s", e.Kind, e.Message)
	}
	return c.link.with(ctx, c.serve)
}

func (c *testCore) serve(ctx context.Context) error {
	s, err := c.link.start(ctx)
	if err != nil {
		return err
	}
	if err := jot("boot %s", s.BootID); err != nil {
		return err
	}
	if err := c.link.conn.Tell(msgReady, nil, nil); err != nil {
		return err
	}
	if c.reboot != "" {
		if err := c.link.conn.Call(ctx, msgReboot, reboot{c.reboot}, nil); err != nil {
			return err
		}
	}
	for {
		peer, err := c.link.peer(ctx)
		if err != nil {
			return err
		}
		// A disk that has just died may be joined once more.
		if err := c.talk(ctx, peer); err != nil && !errors.Is(err, ipc.ErrClosed) {
			return err
		}
	}
}

// talk asks disk who it is and keeps the connection.
func (c *testCore) talk(ctx context.Context, peer *ipc.Conn) error {
	done := make(chan error, 1)
	go func() {
		done <- peer.Run(ctx, func(context.Context, ipc.Message, *os.File) (any, error) { return nil, nil })
	}()
	var hello bmc.DiskHello
	if err := peer.Call(ctx, "hello", nil, &hello); err != nil {
		return err
	}
	if err := jot("disk %s", hello.Instance); err != nil {
		return err
	}
	<-done // disk is gone, or ctx has ended
	return ctx.Err()
}

// A rig runs a parent with children.
type rig struct {
	*parent
	t     *testing.T
	notes string
	dir   string
	ended chan struct{}
	arg   string
	stop  context.CancelFunc
}

// newRig makes one; change may be nil.
func newRig(t *testing.T, core, disk string, change func(*parent)) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), ended: make(chan struct{})}
	r.notes = r.dir + "/notes"
	child := func(role_, name string) role {
		return role{name: role_, command: []string{os.Args[0]}, env: []string{childEnv + "=" + name, notesEnv + "=" + r.notes}, memory: 64 << 20}
	}
	r.parent = newParent(child("core", core), child("disk", disk), slog.New(slog.DiscardHandler))
	if change != nil {
		change(r.parent)
	}
	for _, dir := range []string{"perm", "spare", "card"} {
		if err := os.Mkdir(r.dir+"/"+dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	begin := make(chan start, 1)
	begin <- start{BootID: "boot7", Perm: r.dir + "/perm", Spare: r.dir + "/spare", Card: r.dir + "/card"}
	go func() {
		r.arg = r.parent.run(ctx, begin)
		close(r.ended)
	}()
	t.Cleanup(func() { r.end() })
	return r
}

// end stops it and answers the reboot's argument.
func (r *rig) end() string {
	r.stop()
	return r.wait()
}

// wait waits until it has ended by itself.
func (r *rig) wait() string {
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Error("the parent does not end")
	}
	return r.arg
}

// lines are the notes that begin with a prefix, without it.
func (r *rig) lines(prefix string) []string {
	text, err := os.ReadFile(r.notes)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), prefix); ok {
			list = append(list, strings.TrimSpace(rest))
		}
	}
	return list
}

// await waits until there are n lines with a prefix and answers them.
func (r *rig) await(prefix string, n int) []string {
	r.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if list := r.lines(prefix); len(list) >= n {
			return list
		}
	}
	r.t.Fatalf("got the notes %q, want %d of %q", r.lines(""), n, prefix)
	return nil
}

// kill kills the latest process of a role.
func (r *rig) kill(name string) {
	r.t.Helper()
	list := r.await("start "+name, 1)
	var pid int
	if _, err := fmt.Sscan(list[len(list)-1], &pid); err != nil {
		r.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
}
