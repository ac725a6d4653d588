package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// show prints a result: v as JSON, or what rows writes, whose columns are parted
// by tabs.
func (p *program) show(v any, rows func(w io.Writer)) error {
	if p.global.output == "json" {
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("writing JSON: %w", err)
		}
		_, err = fmt.Fprintf(p.stdout, "%s\n", data)
		return err
	}
	t := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', 0)
	rows(t)
	return t.Flush()
}

// outcome is what a command prints that changed something.
type outcome struct {
	Done    bool   `json:"done"`
	Message string `json:"message"`
}

// done says in a sentence what was done.
func (p *program) done(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	return p.show(outcome{true, text}, func(w io.Writer) { fmt.Fprintln(w, text) })
}

// note tells something that is no result.
func (p *program) note(format string, args ...any) { fmt.Fprintf(p.stderr, format+"\n", args...) }

// row writes cells; those without anything are a dash.
func row(w io.Writer, cells ...any) {
	text := make([]string, len(cells))
	for i, c := range cells {
		if text[i] = clean(fmt.Sprint(c)); text[i] == "" {
			text[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(text, "\t"))
}

// field writes a line of a name and its value, if there is one.
func field(w io.Writer, name string, value any) {
	if text := clean(fmt.Sprint(value)); text != "" {
		fmt.Fprintf(w, "%s\t%s\n", name, text)
	}
}

// clean takes out what would do something to the terminal: texts are the
// service's, which need not be honest.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.TrimSpace(text))
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// local writes a time of the service as people here read it; what is no time is
// left as it is.
func local(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return text
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
