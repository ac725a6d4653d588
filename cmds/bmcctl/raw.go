package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func rawCommands() []command {
	return []command{
		{name: "get", args: "URI", help: "show a resource as the service sends it", setup: plain(rawGet)},
		{name: "patch", args: "URI JSON", help: "change a resource; JSON may be @FILE, or - for the standard input", setup: raw(http.MethodPatch)},
		{name: "post", args: "URI [JSON]", help: "post to a collection or an action; JSON as of patch", setup: raw(http.MethodPost)},
		{name: "delete", args: "URI", help: "delete a resource", setup: plain(rawDelete)},
	}
}

// printBody writes an answer's body, indented where it is JSON.
func (p *program) printBody(body []byte) error {
	if len(body) == 0 {
		return nil
	}
	var b bytes.Buffer
	if err := json.Indent(&b, body, "", "  "); err != nil {
		b.Reset()
		b.Write(body) // XML, as of $metadata
	}
	_, err := fmt.Fprintf(p.stdout, "%s\n", bytes.TrimRight(b.Bytes(), "\n"))
	return err
}

func rawGet(ctx context.Context, p *program, args []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	r, err := c.request(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		return err
	}
	resp, err := c.send(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	return p.printBody(body)
}

func raw(method string) func(f *flag.FlagSet) call {
	return func(f *flag.FlagSet) call {
		etag := f.String("if-match", "", "only if the resource's entity tag is `ETAG`")
		return func(ctx context.Context, p *program, args []string) error {
			body := json.RawMessage("{}")
			if len(args) == 2 {
				var err error
				if body, err = p.json(args[1]); err != nil {
					return err
				}
			}
			c, err := p.connect(ctx)
			if err != nil {
				return err
			}
			header := map[string]string{}
			if *etag != "" {
				header["If-Match"] = *etag
			}
			a, err := c.call(method, args[0], body, header)
			if err != nil {
				return err
			}
			if a.location != "" {
				p.note("Location: %s", clean(a.location))
			}
			return p.printBody(a.body)
		}
	}
}

// json reads the text of an argument.
func (p *program) json(text string) (json.RawMessage, error) {
	data := []byte(text)
	var err error
	if name, is := strings.CutPrefix(text, "@"); is {
		data, err = os.ReadFile(name)
	} else if text == "-" {
		data, err = io.ReadAll(p.stdin)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	if !json.Valid(data) {
		return nil, usagef("the body is not JSON")
	}
	return data, nil
}

func rawDelete(ctx context.Context, p *program, args []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	a, err := c.call(http.MethodDelete, args[0], nil, nil)
	if err != nil {
		return err
	}
	return p.printBody(a.body)
}
