// Bmcctl manages a server through the Redfish service of its BMC: nitrino's, or
// any other that follows DSP0266. docs/bmcctl.md tells the commands, the exit
// codes and what -o json prints.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// Who interrupts twice does not want to be asked, or waited for.
	context.AfterFunc(ctx, stop)
	// A closed pipe is an error of writing, so that the session is ended all the same.
	signal.Ignore(syscall.SIGPIPE)
	p := &program{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		poll:   time.Second / 2,
		getenv: os.Getenv, secret: askSecret, home: configFolder(),
		terminal: term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd())),
	}
	code := p.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// A program is one run of bmcctl, with all that it has of the world.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	// secret asks for a text that is not shown while it is typed.
	secret func(prompt string) (string, error)
	// home is the folder of the configuration; "": there is none.
	home string
	// terminal: somebody sits in front of it, who can be asked.
	terminal bool
	// poll is how often the service is asked whether what is waited for is so.
	poll time.Duration

	global  globals
	session *client // nil: not connected yet
}

// globals are the flags that every command takes.
type globals struct {
	profile, host, user, system string
	passwordFile                string
	fingerprint, ca             string
	output                      string
}

func (g *globals) define(f *flag.FlagSet) {
	f.StringVar(&g.profile, "p", g.profile, "`profile` to use (default: the one chosen by profile use)")
	f.StringVar(&g.host, "H", g.host, "`host` of the service, with :port if it is not 443, instead of a profile")
	f.StringVar(&g.user, "u", g.user, "`user` to log in as")
	f.StringVar(&g.system, "system", g.system, "`Id` of the system to manage, where the service has several")
	f.StringVar(&g.passwordFile, "password-file", g.passwordFile, "`file` whose first line is the password")
	f.StringVar(&g.fingerprint, "fingerprint", g.fingerprint, "SHA-256 `fingerprint` that the service's certificate has to have")
	f.StringVar(&g.ca, "ca", g.ca, "`file` of the authorities (PEM) that the service's certificate is signed by")
	f.StringVar(&g.output, "o", g.output, "`format` of the output: table or json")
}

// main runs one command line and returns the exit code.
func (p *program) main(ctx context.Context, args []string) int {
	p.global = globals{output: "table"}
	err := p.run(ctx, args)
	if p.session != nil {
		// The session is ended even when the command was interrupted. That it cannot
		// be does not undo what was done: the BMC may have another address now.
		if bad := p.session.close(context.WithoutCancel(ctx)); bad != nil {
			p.note("note: the session stays open until it times out: %v", bad)
		}
	}
	if errors.Is(err, flag.ErrHelp) {
		return exitUsage
	}
	if ctx.Err() != nil {
		return exitInterrupted
	}
	if err != nil {
		p.complain(err)
	}
	return exitCode(err)
}

// run finds the command in the table, reads its flags, which may stand anywhere,
// and calls it.
func (p *program) run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == completeCommand {
		return p.complete(args[1:])
	}
	f := p.flags("bmcctl")
	f.Usage = func() { p.help(p.stderr, nil) }
	if err := parse(f, args); err != nil {
		return err
	}
	words := f.Args()
	cmd, used := find(table(), words)
	if cmd == nil {
		if len(words) == 0 || words[0] == "help" {
			p.help(p.stdout, words[min(1, len(words)):])
			return nil
		}
		if len(below(table(), words)) > 0 {
			p.help(p.stderr, words)
			return flag.ErrHelp
		}
		return usagef("there is no command %q; bmcctl help lists them", strings.Join(words, " "))
	}
	f = p.flags("bmcctl " + cmd.name)
	call := cmd.setup(f)
	f.Usage = func() { p.usage(p.stderr, *cmd) }
	words, err := interspersed(f, words[used:])
	if err != nil {
		return err
	}
	if p.global.output != "table" && p.global.output != "json" {
		return usagef("-o %s: want table or json", p.global.output)
	}
	if least, most := cmd.arity(); len(words) < least || len(words) > most {
		return usagef("usage: %s", cmd.line())
	}
	return call(ctx, p, words)
}

// flags makes a set with the flags that every command takes.
func (p *program) flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard) // main says what is wrong
	p.global.define(f)
	return f
}

// parse reads flags up to the first word. What is wrong with them is a mistake in
// usage.
func parse(f *flag.FlagSet, args []string) error {
	err := f.Parse(args)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return usagef("%v", err)
	}
	return err
}

// interspersed reads flags that may stand before, between and behind the words;
// "--" ends them.
func interspersed(f *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := parse(f, args); err != nil {
			return nil, err
		}
		rest := f.Args()
		if len(rest) == 0 {
			return words, nil
		}
		if read := len(args) - len(rest); read > 0 && args[read-1] == "--" {
			return append(words, rest...), nil
		}
		words, args = append(words, rest[0]), rest[1:]
	}
}

// configFolder is where the profiles are kept.
func configFolder() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "" // no home: then there are no profiles
	}
	return filepath.Join(dir, "bmcctl")
}

// askSecret asks at the terminal.
func askSecret(prompt string) (string, error) {
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		return "", errNoTerminal
	}
	fmt.Fprint(os.Stderr, prompt)
	text, err := term.ReadPassword(in)
	fmt.Fprintln(os.Stderr)
	if err != nil {
		return "", fmt.Errorf("reading a password: %w", err)
	}
	return string(text), nil
}

// sure asks whether something is to be done that cannot be undone from here; yes:
// the command line says so already.
func (p *program) sure(yes bool, question string) error {
	if yes {
		return nil
	}
	agreed, err := p.confirm(question)
	if errors.Is(err, errNoTerminal) {
		return usagef("%s There is no terminal to ask at: -yes says so", question)
	}
	if err == nil && !agreed {
		return errors.New("nothing was changed")
	}
	return err
}

// confirm asks a question that only yes answers.
func (p *program) confirm(question string) (bool, error) {
	if !p.terminal {
		return false, errNoTerminal
	}
	fmt.Fprintf(p.stderr, "%s [y/N] ", question)
	line, err := bufio.NewReader(p.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("reading the answer: %w", err)
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}
