package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/term"
)

// prompt is the command line for a person at a terminal.
func (s *session) prompt() int {
	st := s.s.opt.Host.Power.Status()
	fmt.Fprintf(s.term, "%s: the host is %s since %s.\nType help for the commands.\n", clean(s.s.now().HostName), st.State, stamp(st.Since))
	s.term.SetPrompt(clean(s.s.now().HostName) + "> ")
	s.term.AutoCompleteCallback = s.complete
	code := done
	for {
		s.keys.interrupted = false
		line, err := s.term.ReadLine()
		if s.keys.interrupted {
			continue
		}
		if err != nil && !errors.Is(err, term.ErrPasteIndicator) {
			s.term.SetPrompt("") // else the Terminal shows it once more
			fmt.Fprintln(s.term)
			if s.ctx.Err() != nil {
				return failed
			}
			return code
		}
		var leave bool
		if code, leave = s.line(line, code); leave {
			return code
		}
	}
}

// script reads commands from a client without a terminal, one a line.
func (s *session) script() int {
	code := done
	for {
		line, err := s.in.line(s.ctx)
		if errors.Is(err, io.EOF) {
			return code
		}
		if err != nil {
			if !errors.Is(err, context.Canceled) { // why it ends is said elsewhere
				fmt.Fprintln(s.ch.Stderr(), err)
			}
			return failed
		}
		var leave bool
		if code, leave = s.line(line, code); leave {
			return code
		}
	}
}

// line runs one line. The code stays the last command's where there is none.
func (s *session) line(line string, last int) (code int, leave bool) {
	if strings.HasPrefix(strings.TrimSpace(line), "#") {
		return last, false
	}
	words, err := split(line)
	switch {
	case err != nil:
		s.complain(err)
		return badUsage, false
	case len(words) == 0:
		return last, false
	}
	if code, leave = s.execute(words); leave {
		return last, true
	}
	return code, false
}

// run is the one command of "ssh BOARD COMMAND".
func (s *session) run(command string) int {
	if strings.ContainsAny(command, "\r\n") {
		s.complain(fmt.Errorf("%w: one command at a time; several go to the standard input, one a line", errUsage))
		return badUsage
	}
	words, err := split(command)
	if err == nil && len(words) == 0 {
		err = fmt.Errorf("%w: no command; try help", errUsage)
	}
	if err != nil {
		s.complain(err)
		return badUsage
	}
	code, _ := s.execute(words)
	return code
}

func (s *session) complain(err error) {
	if s.tty {
		fmt.Fprintln(s.term, err)
		return
	}
	fmt.Fprintln(s.ch.Stderr(), err)
}

// secret reads a new password or secret: without echo and twice from a
// terminal, else the next line of the input. It never comes from arguments,
// which end up in histories and lists of processes.
func (c *call) secret(ctx context.Context, what string) (string, error) {
	if !c.tty {
		line, err := c.in.line(ctx)
		if errors.Is(err, io.EOF) {
			return "", fmt.Errorf("%w: the %s is read from the standard input, which is empty", errUsage, what)
		}
		return line, err
	}
	first, err := c.hidden(what + ": ")
	if err != nil {
		return "", err
	}
	again, err := c.hidden("the same again: ")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", errors.New("the two are not the same")
	}
	return first, nil
}

func (c *call) hidden(prompt string) (string, error) {
	before := c.in.onInterrupt(nil)
	defer func() { c.in.onInterrupt(before) }()
	c.keys.password, c.keys.interrupted = true, false
	defer func() { c.keys.password = false }()
	line, err := c.term.ReadPassword(prompt)
	if c.keys.interrupted {
		return "", errInterrupted
	}
	return line, err
}

// maxHistory is how many lines the up key goes back over.
const maxHistory = 100

// A history keeps lines that are worth coming back to.
type history struct{ lines []string }

func (h *history) Add(line string) {
	if strings.TrimSpace(line) == "" || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return
	}
	h.lines = append(h.lines, line)
	h.lines = h.lines[max(0, len(h.lines)-maxHistory):]
}

func (h *history) Len() int { return len(h.lines) }

func (h *history) At(i int) string { return h.lines[len(h.lines)-1-i] }

// complete is the Terminal's AutoCompleteCallback.
func (s *session) complete(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' {
		return "", 0, false
	}
	before, after := line[:pos], line[pos:]
	word, found := s.candidates(before)
	switch len(found) {
	case 0:
		return line, pos, true
	case 1:
		rest := found[0][len(word):]
		if !strings.HasPrefix(after, " ") {
			rest += " "
		}
		return before + rest + after, pos + len(rest), true
	}
	common := found[0]
	for _, f := range found[1:] {
		for !strings.HasPrefix(f, common) {
			common = common[:len(common)-1]
		}
	}
	if rest := common[len(word):]; rest != "" {
		return before + rest + after, pos + len(rest), true
	}
	fmt.Fprintln(s.term, clean(strings.Join(found, "  ")))
	return line, pos, true
}

// candidates lists what the last word of a line may become. A word that is
// being quoted is left alone: what there is to complete needs no quotes.
func (s *session) candidates(line string) (word string, found []string) {
	words, open := splitOpen(line)
	if open != "" || strings.ContainsAny(line, `'"\`) {
		return "", nil
	}
	if len(words) > 0 && !strings.HasSuffix(line, " ") && !strings.HasSuffix(line, "\t") {
		word = words[len(words)-1]
		words = words[:len(words)-1]
	}
	for _, w := range s.nextWords(words, word) {
		if strings.HasPrefix(w, word) && !slices.Contains(found, w) {
			found = append(found, w)
		}
	}
	return word, found
}

// nextWords lists what may follow words, for a word that begins as word does.
func (s *session) nextWords(words []string, word string) (next []string) {
	u, ok := s.s.opt.Auth.User(s.user)
	if !ok {
		return nil
	}
	group := false
	for _, r := range s.s.rows {
		g, sub, _ := strings.Cut(r.name, " ")
		switch {
		case r.absent || !u.Role.AtLeast(r.role):
		case len(words) == 0:
			next = append(next, g)
		case len(words) == 1 && words[0] == g && sub != "":
			group = true
			next = append(next, sub)
		}
	}
	if len(words) == 0 {
		return next
	}
	if words[0] == "help" {
		if len(words) == 1 {
			return s.nextWords(nil, word)
		}
		return s.nextWords(words[1:], word)
	}
	if group && !strings.HasPrefix(word, "-") {
		return next
	}
	r, args, err := s.s.find(words)
	if err != nil || r.absent || !u.Role.AtLeast(r.role) {
		return nil
	}
	if strings.HasPrefix(word, "-") {
		next = nil
		for _, f := range r.flags {
			next = append(next, f.name)
			if f.long != "" {
				next = append(next, f.long)
			}
		}
		return next
	}
	// What follows "-n" is its value, and the words before do not count it.
	_, rest, err := parse(args, r.flags)
	if err != nil || r.words == nil {
		return nil
	}
	return r.words(len(rest))
}
