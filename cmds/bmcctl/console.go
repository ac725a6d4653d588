package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/term"
)

func consoleCommands() []command {
	return []command{{name: "console", help: "join the host's serial console over SSH; ~. at the start of a line leaves it", setup: console}}
}

const consoleHelp = "\r\n~.  leave the console\r\n~B  send a break\r\n~~  type one ~\r\n"

func console(f *flag.FlagSet) call {
	port := f.Int("port", 0, "TCP `port` of SSH (default: the one that the service tells)")
	return func(ctx context.Context, p *program, _ []string) error {
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		s, err := p.system(c)
		if err != nil {
			return err
		}
		offer := s.SerialConsole.SSH
		if !offer.ServiceEnabled {
			return fmt.Errorf("serial console over SSH: %w, or it is switched off", errUnsupported)
		}
		if *port == 0 {
			*port = offer.Port
		}
		if *port == 0 {
			*port = 22
		}
		_, hostport, err := address(c.profile.Host)
		if err != nil {
			return err
		}
		host, _, err := net.SplitHostPort(hostport)
		if err != nil {
			return fmt.Errorf("host %s: %w", c.profile.Host, err)
		}
		conn, err := p.dialSSH(ctx, c, net.JoinHostPort(host, strconv.Itoa(*port)))
		if err != nil {
			return err
		}
		// Ctrl-C reaches the host as a key; what ends the program is a signal from
		// elsewhere.
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // the error is the session's to tell
		err = p.attach(conn, offer.ConsoleEntryCommand)
		stop()
		return errors.Join(err, ignoreClosed(conn.Close()))
	}
}

// dialSSH logs in with the keys of the agent, or the password.
func (p *program) dialSSH(ctx context.Context, c *client, addr string) (*ssh.Client, error) {
	user := c.user
	if user == "" {
		user = p.user(c.profile)
	}
	if user == "" {
		return nil, usagef("no user is named: want -u USER")
	}
	password := func() (string, error) {
		if c.password != "" {
			return c.password, nil
		}
		return p.password(user, addr)
	}
	methods := []ssh.AuthMethod{
		ssh.PasswordCallback(password),
		ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			if len(questions) != 1 {
				return make([]string, len(questions)), nil
			}
			text, err := password()
			return []string{text}, err
		}),
	}
	if socket := p.getenv("SSH_AUTH_SOCK"); socket != "" {
		if conn, err := net.Dial("unix", socket); err == nil { // without an agent the password has to do
			defer conn.Close()
			methods = append([]ssh.AuthMethod{ssh.PublicKeysCallback(agent.NewClient(conn).Signers)}, methods...)
		}
	}
	conf := &ssh.ClientConfig{User: user, Auth: methods, HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error { return p.hostKey(c, addr, key) }}
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connecting to SSH: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the handshake
	defer stop()
	client, channels, requests, err := ssh.NewClientConn(conn, addr, conf)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("logging in over SSH: %w", err), ignoreClosed(conn.Close()))
	}
	return ssh.NewClient(client, channels, requests), nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// hostKey takes the key that the profile has; the first time somebody has to say
// that it is right.
func (p *program) hostKey(c *client, addr string, key ssh.PublicKey) error {
	got := ssh.FingerprintSHA256(key)
	switch want := c.profile.HostKey; {
	case want == got:
		return nil
	case want != "":
		return &certificateError{fmt.Sprintf("the SSH host key of %s is not the one of the profile: either it was made anew, or somebody stands in between.\n  profile: %s\n  now:     %s\nIf you know of the change: bmcctl profile trust", addr, want, got)}
	}
	yes, err := p.confirm(fmt.Sprintf("The SSH host key of %s is %s.\nTrust it?", addr, got))
	if err != nil {
		return &certificateError{fmt.Sprintf("the SSH host key of %s (%s) is not known: %v", addr, got, err)}
	}
	if !yes {
		return &certificateError{"the SSH host key is not trusted"}
	}
	if c.name == "" {
		return nil
	}
	return p.change(c.name, func(one *profile) { one.HostKey = got })
}

// attach joins the console: command leads to it from a command line, "" where the
// port is the console's own.
func (p *program) attach(conn *ssh.Client, command string) error {
	s, err := conn.NewSession()
	if err != nil {
		return fmt.Errorf("opening the console: %w", err)
	}
	defer s.Close()
	keys, err := s.StdinPipe()
	if err != nil {
		return fmt.Errorf("opening the console: %w", err)
	}
	notes := &lockedWriter{w: p.stderr}
	s.Stdout, s.Stderr = p.stdout, notes
	in, isFile := p.stdin.(*os.File)
	raw := isFile && term.IsTerminal(int(in.Fd()))
	if raw {
		restore, err := rawTerminal(s, int(in.Fd()))
		if err != nil {
			return err
		}
		defer restore()
		fmt.Fprint(notes, "Console joined; ~. at the start of a line leaves it.\r\n")
	}
	if command != "" {
		err = s.Start(command)
	} else {
		err = s.Shell()
	}
	if err != nil {
		return fmt.Errorf("joining the console: %w", err)
	}
	left := make(chan error, 1)
	// It ends with the process: a read of a terminal cannot be broken off.
	go func() { left <- typeKeys(p.stdin, keys, notes, raw, func() error { return sendBreak(s) }) }()
	ended := make(chan error, 1)
	go func() { ended <- s.Wait() }()
	for {
		select {
		case err := <-left:
			if err == nil && !raw {
				left = nil // the input is over, not the watching
				continue
			}
			err = errors.Join(err, ignoreClosed(conn.Close()))
			<-ended // how a session ends that was left says nothing
			return err
		case err := <-ended:
			if e, is := errors.AsType[*ssh.ExitMissingError](err); is {
				return fmt.Errorf("the console's connection was lost: %w", e)
			}
			if err != nil {
				return fmt.Errorf("the console ended: %w", err)
			}
			return nil
		}
	}
}

// A lockedWriter takes what the host's side and the keys have to say.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// sendBreak asks for a break of half a second (RFC 4335).
func sendBreak(s *ssh.Session) error {
	_, err := s.SendRequest("break", true, ssh.Marshal(struct{ Milliseconds uint32 }{500}))
	return err
}

// rawTerminal lets every key through to the host, and tells it the terminal's size.
func rawTerminal(s *ssh.Session, fd int) (restore func(), err error) {
	width, height, err := term.GetSize(fd)
	if err != nil {
		width, height = 80, 24
	}
	kind := os.Getenv("TERM")
	if kind == "" {
		kind = "vt100"
	}
	if err := s.RequestPty(kind, height, width, ssh.TerminalModes{}); err != nil {
		return nil, fmt.Errorf("opening the console: %w", err)
	}
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("the terminal: %w", err)
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range resized {
			if width, height, err := term.GetSize(fd); err == nil {
				_ = s.WindowChange(height, width) // a lost connection is told elsewhere
			}
		}
	}()
	return func() {
		signal.Stop(resized)
		close(resized)
		<-done
		_ = term.Restore(fd, before) // nothing more can be done about it
	}, nil
}

// typeKeys carries what is typed until the leaving key; without a terminal nothing
// is looked for.
func typeKeys(in io.Reader, to io.WriteCloser, notes io.Writer, raw bool, sendBreak func() error) error {
	if !raw {
		_, err := io.Copy(to, in)
		return errors.Join(err, to.Close())
	}
	var keys keyFilter
	buffer := make([]byte, 4096)
	for {
		n, err := in.Read(buffer)
		for rest := buffer[:n]; len(rest) > 0; {
			var out []byte
			var pressed key
			out, pressed, rest = keys.filter(rest)
			if len(out) > 0 {
				if _, err := to.Write(out); err != nil {
					return fmt.Errorf("typing: %w", err)
				}
			}
			switch pressed {
			case leaveKey:
				fmt.Fprint(notes, "\r\nConsole left.\r\n")
				return nil
			case breakKey:
				if err := sendBreak(); err != nil {
					return fmt.Errorf("sending a break: %w", err)
				}
			case helpKey:
				fmt.Fprint(notes, consoleHelp)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the keys: %w", err)
		}
	}
}
