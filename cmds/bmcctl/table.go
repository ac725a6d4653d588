package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A call does what a command is for. args are its words without flags, as many as
// the table says.
type call func(ctx context.Context, p *program, args []string) error

// A command is a row of the table, of which dispatch, help, completion and the
// check of the documentation are made.
type command struct {
	name string // one to three words
	// args are the words that follow, as people read them: an [OPTIONAL] one is in
	// brackets, "..." repeats the last, and a|b are the values that there are.
	args string
	help string // one line
	// values are suggested for an argument, by its word in args.
	values map[string][]string
	// setup defines the command's own flags and returns what reads them.
	setup func(f *flag.FlagSet) call
}

// plain is the setup of a command without flags of its own.
func plain(c call) func(*flag.FlagSet) call {
	return func(*flag.FlagSet) call { return c }
}

// table lists the commands.
func table() []command {
	return slices.Concat(profileCommands(), infoCommands(), powerCommands(), bootCommands(), consoleCommands(),
		mediaCommands(), volumeCommands(), targetCommands(), eventCommands(), updateCommands(), userCommands(), settingCommands(), certificateCommands(),
		sessionCommands(), resetCommands(), rawCommands(), completionCommands())
}

// find returns the command with the most words that args begin with, and how many
// those are.
func find(all []command, args []string) (found *command, used int) {
	for i, c := range all {
		words := strings.Fields(c.name)
		if len(words) > used && len(words) <= len(args) && slices.Equal(words, args[:len(words)]) {
			found, used = &all[i], len(words)
		}
	}
	return found, used
}

// below lists the commands whose names begin with these words.
func below(all []command, words []string) (some []command) {
	for _, c := range all {
		name := strings.Fields(c.name)
		if len(name) >= len(words) && slices.Equal(name[:len(words)], words) {
			some = append(some, c)
		}
	}
	return some
}

// line is how the command is called.
func (c command) line() string { return strings.TrimSpace("bmcctl " + c.name + " " + c.args) }

// arity is how many words may follow the name.
func (c command) arity() (least, most int) {
	for _, word := range strings.Fields(c.args) {
		most++
		if strings.HasSuffix(strings.TrimSuffix(word, "]"), "...") {
			most = 1 << 16
		}
		if !strings.HasPrefix(word, "[") {
			least++
		}
	}
	return least, most
}

// choices are the values that an argument may have, as far as the table knows.
func (c command) choices(n int) []string {
	var some []string
	if words := strings.Fields(c.args); n < len(words) {
		for _, v := range strings.Split(strings.Trim(words[n], "[]"), "|") {
			if v == strings.ToLower(v) {
				some = append(some, v)
			}
			some = append(some, c.values[v]...)
		}
	}
	return some
}

// takesFile: an argument names a file.
func (c command) takesFile(n int) bool {
	words := strings.Fields(c.args)
	return n < len(words) && slices.Contains(strings.Split(strings.Trim(words[n], "[]"), "|"), "FILE")
}

// help lists the commands that begin with some words.
func (p *program) help(w io.Writer, words []string) {
	some := below(table(), words)
	if len(some) == 1 {
		p.usage(w, some[0])
		return
	}
	fmt.Fprintln(w, "usage: bmcctl [FLAGS] COMMAND [ARGUMENTS]")
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, c := range some {
		fmt.Fprintf(t, "  %s\t%s\n", strings.TrimSpace(c.name+" "+c.args), c.help)
	}
	_ = t.Flush() // what cannot be shown cannot be told
	fmt.Fprintln(w, "\nbmcctl COMMAND -h tells a command's flags. Every command takes:")
	printFlags(w, p.flags(""))
}

// usage tells one command.
func (p *program) usage(w io.Writer, c command) {
	fmt.Fprintf(w, "usage: %s\n\n%s.\n", c.line(), upper(c.help))
	f := flag.NewFlagSet("", flag.ContinueOnError)
	c.setup(f)
	printFlags(w, f)
	fmt.Fprintln(w, "\nEvery command takes:")
	printFlags(w, p.flags(""))
}

func printFlags(w io.Writer, f *flag.FlagSet) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	f.VisitAll(func(one *flag.Flag) {
		value, help := flag.UnquoteUsage(one)
		fmt.Fprintf(t, "  -%s\t%s\n", strings.TrimSpace(one.Name+" "+value), help)
	})
	_ = t.Flush() // as in help
}

func upper(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
