package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nitrino/nitrino/internal/progress"
)

func updateCommands() []command {
	return []command{
		{name: "update", args: "FILE|URL", help: "bring new software to the BMC, and follow how it is taken", setup: update},
		{name: "firmware", help: "show the software that the service knows", setup: plain(firmware)},
	}
}

// An updateService is the schema UpdateService's.
type updateService struct {
	Push              string `json:"MultipartHttpPushUri"`
	MaxImageSizeBytes *int64
	FirmwareInventory link
	Actions           struct {
		Simple struct {
			action
			Protocols []string `json:"TransferProtocol@Redfish.AllowableValues"`
		} `json:"#UpdateService.SimpleUpdate"`
	}
}

func (c *client) updateService() (u updateService, err error) {
	r, err := c.root()
	if err != nil {
		return u, err
	}
	if _, err = c.read(r.UpdateService.URI, &u); err != nil {
		return u, fmt.Errorf("update service: %w", err)
	}
	return u, nil
}

// pushParameters and simpleParameters are what an update is told.
type pushParameters struct {
	Targets   []string `json:"Targets,omitempty"`
	ApplyTime string   `json:"@Redfish.OperationApplyTime,omitempty"`
}

type simpleParameters struct {
	ImageURI         string
	TransferProtocol string   `json:",omitempty"`
	Targets          []string `json:",omitempty"`
	ApplyTime        string   `json:"@Redfish.OperationApplyTime,omitempty"`
}

// A taskReport is what update prints.
type taskReport struct {
	Task     string    `json:"task,omitempty"` // URI
	State    string    `json:"state"`
	Messages []message `json:"messages"`
}

func update(f *flag.FlagSet) call {
	target := f.String("target", "", "`URI` of what is to be updated (default: the service decides)")
	when := f.String("apply", "", "`time` to apply it: Immediate, OnReset or OnStartUpdateRequest (default: the service's)")
	nowait := f.Bool("n", false, "do not follow the task")
	return func(ctx context.Context, p *program, args []string) error {
		c, err := p.connect(ctx)
		if err != nil {
			return err
		}
		u, err := c.updateService()
		if err != nil {
			return err
		}
		var targets []string
		if *target != "" {
			targets = []string{*target}
		}
		var a *answer
		if strings.Contains(args[0], "://") {
			a, err = c.simpleUpdate(u, simpleParameters{ImageURI: args[0], Targets: targets, ApplyTime: *when})
		} else {
			a, err = c.push(ctx, p, u, args[0], pushParameters{targets, *when})
		}
		if err != nil {
			return err
		}
		if *nowait || a.status != http.StatusAccepted {
			return p.done("The service took %s", args[0])
		}
		t, err := c.follow(ctx, p, a, "update")
		if err != nil {
			return err
		}
		r := taskReport{t.URI, t.TaskState, []message{}}
		for _, m := range t.Messages {
			r.Messages = append(r.Messages, m.short())
		}
		return p.show(r, func(w io.Writer) { fmt.Fprintf(w, "Update: %s\n", strings.ToLower(t.TaskState)) })
	}
}

// simpleUpdate lets the service fetch the file.
func (c *client) simpleUpdate(u updateService, body simpleParameters) (*answer, error) {
	to, err := url.Parse(body.ImageURI)
	if err != nil {
		return nil, usagef("%s: %v", body.ImageURI, err)
	}
	protocol := strings.ToUpper(to.Scheme)
	if all := u.Actions.Simple.Protocols; all != nil {
		if !slices.Contains(all, protocol) {
			return nil, fmt.Errorf("update by %s: %w: it offers %s", to.Scheme, errUnsupported, strings.Join(all, ", "))
		}
		body.TransferProtocol = protocol
	}
	return c.act(u.Actions.Simple.action, "update by URL", body)
}

// push sends the file (DSP0266, Multipart HTTP push updates). It is read as it
// goes; its length is told beforehand, since not every service takes chunks.
func (c *client) push(ctx context.Context, p *program, u updateService, file string, parameters pushParameters) (*answer, error) {
	if u.Push == "" {
		return nil, fmt.Errorf("update by upload: %w", errUnsupported)
	}
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, usagef("%s is no plain file", file)
	}
	if most := u.MaxImageSizeBytes; most != nil && *most > 0 && info.Size() > *most {
		return nil, fmt.Errorf("%s has %d bytes; the service takes at most %d", file, info.Size(), *most)
	}
	head, tail, kind, err := envelope(filepath.Base(file), parameters)
	if err != nil {
		return nil, err
	}
	meter := progress.Start(p.meter(), "uploading "+filepath.Base(file), info.Size(), "B")
	body := io.MultiReader(bytes.NewReader(head), &counted{io.NopCloser(in), meter}, bytes.NewReader(tail))
	r, err := c.request(ctx, http.MethodPost, u.Push, body)
	if err != nil {
		meter.Done(err)
		return nil, err
	}
	r.ContentLength = int64(len(head)) + info.Size() + int64(len(tail))
	r.Header.Set("Content-Type", kind)
	resp, err := c.send(r)
	meter.Done(err)
	if err != nil {
		return nil, fmt.Errorf("uploading %s: %w", file, err)
	}
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, location: resp.Header.Get("Location")}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, answerLimit)); err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	c.tell(a.body)
	return a, nil
}

// envelope makes what stands before and behind the file in the body.
func envelope(name string, parameters pushParameters) (head, tail []byte, kind string, err error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	part := func(disposition, kind string) (io.Writer, error) {
		return w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {disposition}, "Content-Type": {kind}})
	}
	data, err := json.Marshal(parameters)
	if err != nil {
		return nil, nil, "", fmt.Errorf("writing JSON: %w", err)
	}
	to, err := part(`form-data; name="UpdateParameters"`, "application/json")
	if err == nil {
		_, err = to.Write(data)
	}
	if err == nil {
		_, err = part(fmt.Sprintf(`form-data; name="UpdateFile"; filename=%q`, name), "application/octet-stream")
	}
	cut := b.Len()
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, nil, "", fmt.Errorf("making the body: %w", err)
	}
	return b.Bytes()[:cut], b.Bytes()[cut:], w.FormDataContentType(), nil
}

// A firmwareRow is one of firmware.
type firmwareRow struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Version    string `json:"version"`
	Updateable *bool  `json:"updateable,omitempty"`
	URI        string `json:"uri"`
}

func firmware(ctx context.Context, p *program, _ []string) error {
	c, err := p.connect(ctx)
	if err != nil {
		return err
	}
	u, err := c.updateService()
	if err != nil {
		return err
	}
	some, err := members[struct {
		URI           string `json:"@odata.id"`
		ID            string `json:"Id"`
		Name, Version string
		Updateable    *bool
	}](c, u.FirmwareInventory.URI)
	if err != nil {
		return fmt.Errorf("firmware: %w", err)
	}
	all := []firmwareRow{}
	for _, s := range some {
		all = append(all, firmwareRow{s.ID, s.Name, s.Version, s.Updateable, s.URI})
	}
	return p.show(all, func(w io.Writer) {
		row(w, "ID", "NAME", "VERSION")
		for _, s := range all {
			row(w, s.ID, s.Name, s.Version)
		}
	})
}
