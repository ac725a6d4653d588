//go:build e2e || bench

package test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A caller sends requests to the board as one user, over connections of its own.
type caller struct {
	tb             testing.TB
	base           string
	user, password string // Basic login; without a user there is none
	client         *http.Client
}

// as is a caller with a user's name and password.
func (s *sim) as(user, password string) caller {
	s.tb.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 16}
	s.tb.Cleanup(transport.CloseIdleConnections)
	return caller{s.tb, s.Redfish, user, password, &http.Client{Transport: transport, Timeout: time.Minute}}
}

// admin is the caller that may do everything.
func (s *sim) admin() caller {
	s.tb.Helper()
	return s.as(s.User, s.Password)
}

// An answer is what a request got.
type answer struct {
	tb     testing.TB
	status int
	header http.Header
	body   []byte
	json   map[string]any // nil: the body is none
}

// request makes one with the caller's login. A path may be a whole URL.
func (c caller) request(method, path string, body io.Reader) *http.Request {
	c.tb.Helper()
	if strings.HasPrefix(path, "/") {
		path = c.base + path
	}
	r, err := http.NewRequestWithContext(c.tb.Context(), method, path, body)
	if err != nil {
		c.tb.Fatal(err)
	}
	if c.user != "" {
		r.SetBasicAuth(c.user, c.password)
	}
	return r
}

// send sends a request, and reads all of the answer.
func (c caller) send(r *http.Request) (answer, error) {
	resp, err := c.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{tb: c.tb, status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err == nil && bytes.HasPrefix(a.body, []byte("{")) {
		err = json.Unmarshal(a.body, &a.json)
	}
	return a, err
}

// try sends a JSON body, or none where it is empty.
func (c caller) try(method, path, body string) (answer, error) {
	c.tb.Helper()
	r := c.request(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return c.send(r)
}

// do is try for what has to be answered with a status.
func (c caller) do(want int, method, path, body string) answer {
	c.tb.Helper()
	a, err := c.try(method, path, body)
	if err != nil || a.status != want {
		c.tb.Fatalf("%s %s %.200s: got %d, %v, %s, want %d", method, path, body, a.status, err, a.body, want)
	}
	return a
}

// get reads a resource.
func (c caller) get(path string) answer {
	c.tb.Helper()
	return c.do(http.StatusOK, "GET", path, "")
}

// at walks into the answer's JSON; nil: there is nothing.
func (a answer) at(path ...string) any {
	var v any = a.json
	for _, name := range path {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

// text is at for what is a string; "" if it is none.
func (a answer) text(path ...string) string {
	text, _ := a.at(path...).(string)
	return text
}

// members are the URIs of a collection's.
func (a answer) members() (uris []string) {
	list, _ := a.at("Members").([]any)
	for _, each := range list {
		object, _ := each.(map[string]any)
		uri, _ := object["@odata.id"].(string)
		uris = append(uris, uri)
	}
	return uris
}

// said reports whether a message with that key of a registry is in the answer:
// an error, or what stands beside a resource.
func (a answer) said(key string) bool {
	return strings.Contains(string(a.body), "."+key+`"`)
}

// walk follows all links from the service root, and returns each answer by its
// URI. What is not there, or not for this user, is not followed.
func (c caller) walk() map[string]answer {
	c.tb.Helper()
	seen := map[string]answer{}
	todo := []string{"/redfish/v1/"}
	var collect func(v any)
	collect = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, each := range v {
				uri, _ := each.(string)
				switch name {
				case "@odata.id", "@Redfish.ActionInfo", "Members@odata.nextLink", "Uri":
					if uri, _, _ = strings.Cut(uri, "#"); strings.HasPrefix(uri, "/redfish/v1") {
						todo = append(todo, uri)
					}
				}
				collect(each)
			}
		case []any:
			for _, each := range v {
				collect(each)
			}
		}
	}
	for len(todo) > 0 {
		uri := todo[0]
		todo = todo[1:]
		if _, done := seen[uri]; done {
			continue
		}
		a, err := c.try("GET", uri, "")
		if err != nil {
			c.tb.Fatalf("GET %s: %v", uri, err)
		}
		seen[uri] = a
		if a.status == http.StatusOK {
			collect(any(a.json))
		}
	}
	return seen
}
