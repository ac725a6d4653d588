package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nitrino/nitrino/auth"
	"github.com/nitrino/nitrino/host"
)

func (s *Server) consoleRows() []row {
	return []row{{
		name: "console", role: auth.ReadOnly, run: console, absent: s.opt.Host.Console == nil, raw: true,
		does: "join the host's serial console",
		flags: []flag{
			{name: "-n", long: "--replay", value: "BYTES", does: "show so many bytes of the past first (" + strconv.Itoa(max(s.now().ConsoleReplay, 0)) + ")"},
			{name: "-p", long: "--print", does: "show the past and leave"},
		},
		more: escapeHelp + `
OpenSSH's client takes ~ at the start of a line for itself: type ~~. there
(or ~. , which also ends the whole connection), or start it with "-e none".
Everybody who joins sees the same; a ReadOnly user cannot type.
Without a terminal (ssh -T USER@BOARD console) the bytes pass as they are, no
escapes are looked for, notices go to the standard error output, and the end
of the input does not end the watching: the client does.`,
	}}
}

const escapeHelp = `At the start of a line:
  ~.  leave the console
  ~B  send a break
  ~?  show this
  ~~  type one ~`

func console(ctx context.Context, c *call) error {
	if err := c.counts(0, 0); err != nil {
		return err
	}
	replay := c.s.now().ConsoleReplay
	if v, ok := c.flags["-n"]; ok {
		var err error
		if replay, err = number(v, 0, host.ConsoleReplay); err != nil {
			return err
		}
	}
	if c.flag("-p") {
		return c.printPast(replay)
	}
	return newAttachment(ctx, c).join(replay)
}

// printPast writes what is in the ring now.
func (c *call) printPast(replay int) error {
	out := c.session.out(c.ch) // raw: the Terminal would rewrite newlines
	over, cancel := context.WithCancel(context.Background())
	cancel() // so that Next takes what is there and does not wait
	w := c.s.opt.Host.Console.Watch(replay)
	p := make([]byte, 4096)
	for left := replay; left > 0; {
		n, _, err := w.Next(over, p[:min(left, len(p))])
		if err != nil {
			break // there is no more
		}
		left -= n
		if _, err := out.Write(p[:n]); err != nil {
			return err
		}
	}
	if c.tty {
		c.printf("\n") // the prompt needs a line of its own
	}
	return nil
}

// An attachment is one session at the console.
type attachment struct {
	*call
	ctx    context.Context
	cancel context.CancelFunc
	// Both are raw, and in step: a notice never lands within a write.
	writing sync.Mutex
	out     io.Writer
	notices io.Writer

	// What was told already, so that it is not told at each key.
	refused, unsent atomic.Bool
}

func newAttachment(ctx context.Context, c *call) *attachment {
	a := &attachment{call: c, out: c.session.out(c.ch), notices: c.session.out(c.ch.Stderr())}
	if c.tty {
		a.notices = a.out // a terminal has no second stream
	}
	a.ctx, a.cancel = context.WithCancel(ctx)
	return a
}

// join shows the console until the person leaves, or ctx ends.
func (a *attachment) join(replay int) error {
	defer a.cancel()
	if a.tty {
		a.notice("console of %s; ~. leaves (with OpenSSH ~~.), ~? helps", clean(a.s.now().HostName))
	}
	// A break by the client's own means (RFC 4335), as OpenSSH's ~B. It is
	// answered at once and sent by the goroutine that types.
	breaks := make(chan struct{}, 1)
	a.session.setBreak(func() bool {
		select {
		case breaks <- struct{}{}:
		default: // one is about to be sent
		}
		return true
	})
	defer a.session.setBreak(nil)

	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-breaks:
				a.sendBreak()
			case <-a.ctx.Done():
				return
			}
		}
	})
	var watching error
	wg.Go(func() {
		defer a.cancel()
		watching = a.watch(a.s.opt.Host.Console.Watch(replay))
	})
	if a.tty {
		a.typing()
		a.cancel()
	} else {
		a.pipe()
	}
	wg.Wait()
	if a.tty {
		// The host may have left colours on and the cursor hidden.
		a.write(a.out, []byte("\x1b[m\x1b[?25h"))
		a.notice("left the console")
	}
	if errors.Is(watching, context.Canceled) {
		return a.session.ctx.Err() // nil where the person left
	}
	return watching
}

// watch writes the console's bytes until ctx ends.
func (a *attachment) watch(w *host.Watcher) error {
	p := make([]byte, 16<<10)
	for {
		n, lost, err := w.Next(a.ctx, p)
		if err != nil {
			return err
		}
		if lost > 0 {
			a.notice("%d bytes were lost: the connection is too slow", lost)
		}
		if err := a.write(a.out, p[:n]); err != nil {
			return err
		}
	}
}

func (a *attachment) write(w io.Writer, p []byte) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	_, err := w.Write(p)
	return err
}

// notice says something that does not come from the host. Where it cannot be
// written the client is gone, which is seen elsewhere.
func (a *attachment) notice(format string, args ...any) {
	end := "\n"
	if a.tty {
		format, end = "\r\n["+format+"]", "\r\n"
	}
	_ = a.write(a.notices, []byte(fmt.Sprintf(format, args...)+end))
}

// typing passes on what is typed at a terminal, until the person leaves.
func (a *attachment) typing() {
	var esc escape
	p := make([]byte, 4096)
	for {
		n, err := a.in.read(a.ctx, p, "")
		if err != nil {
			a.send(esc.rest(nil))
			return
		}
		for in := p[:n]; len(in) > 0; {
			out, used, act := esc.next(nil, in)
			in = in[used:]
			a.send(out)
			switch act {
			case leave:
				a.in.unread(in)
				return
			case sendBreak:
				a.sendBreak()
			case showHelp:
				a.showHelp()
			}
		}
	}
}

// pipe passes on the input as it is.
func (a *attachment) pipe() {
	p := make([]byte, 4096)
	for {
		n, err := a.in.read(a.ctx, p, "")
		if err != nil {
			return
		}
		a.send(p[:n])
	}
}

func (a *attachment) mayType() bool {
	u, ok := a.s.opt.Auth.User(a.user.Name) // the role may have changed meanwhile
	if ok && u.Enabled && !u.PasswordChangeRequired && u.Role.AtLeast(auth.Operator) {
		return true
	}
	if !a.refused.Swap(true) {
		a.notice("your role may only watch; what you type is not sent")
	}
	return false
}

func (a *attachment) send(p []byte) {
	if len(p) == 0 || !a.mayType() {
		return
	}
	_, err := a.s.opt.Host.Console.Write(p)
	if told := a.unsent.Swap(err != nil); err != nil && !told {
		a.notice("not sent: %s", clean(err.Error()))
	}
}

func (a *attachment) sendBreak() {
	if !a.mayType() {
		return
	}
	if err := a.s.opt.Host.Console.Break(a.ctx); err != nil {
		a.notice("no break was sent: %s", clean(err.Error()))
	}
}

func (a *attachment) showHelp() {
	a.notice("%s", strings.ReplaceAll(escapeHelp, "\n", "\r\n"))
}
