package redfishtest

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

//go:embed testdata/schemas/*.json
var schemaFiles embed.FS

// A SchemaSet is DMTF's JSON schemas in testdata/schemas, by file name without
// ".json". check knows the keywords that they use and no other.
type SchemaSet map[string]map[string]any

// Schemas reads them.
func Schemas(t testing.TB) SchemaSet {
	t.Helper()
	files, err := fs.Glob(schemaFiles, "testdata/schemas/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no schemas: %v", err)
	}
	set := SchemaSet{}
	for _, f := range files {
		data, err := schemaFiles.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var s map[string]any
		if err := json.Unmarshal(data, &s); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		set[strings.TrimSuffix(path.Base(f), ".json")] = s
	}
	return set
}

// file finds the schema of a namespace: that version, or the newest of the
// same name and major version, whose later additions check refuses.
func (s SchemaSet) file(namespace string) string {
	if _, found := s[namespace]; found {
		return namespace
	}
	name, version, _ := strings.Cut(namespace, ".")
	major, _, _ := strings.Cut(version, "_")
	for f := range s {
		if strings.HasPrefix(f, name+"."+major+"_") {
			return f
		}
	}
	return ""
}

// Check validates value against the schema of a namespace.
func (s SchemaSet) Check(namespace, definition string, value any) []string {
	f := s.file(namespace)
	if f == "" {
		return []string{"no schema for " + namespace}
	}
	_, version, _ := strings.Cut(namespace, ".")
	c := checker{s, version}
	if definition != "" {
		return c.check(f, s[f]["definitions"].(map[string]any)[definition], value, "#")
	}
	return c.check(f, map[string]any{"$ref": s[f]["$ref"]}, value, "#")
}

type checker struct {
	set     SchemaSet
	version string // of the payload's schema: nothing newer may be in it
}

func (c checker) check(file string, schema, value any, at string) (bad []string) {
	sch, isSchema := schema.(map[string]any)
	if !isSchema {
		return []string{at + ": no such definition"}
	}
	say := func(format string, args ...any) { bad = append(bad, at+": "+fmt.Sprintf(format, args...)) }
	for _, keyword := range slices.Sorted(maps.Keys(sch)) {
		rule := sch[keyword]
		switch keyword {
		case "$ref":
			bad = append(bad, c.checkRef(file, rule.(string), value, at)...)
		case "anyOf":
			var all []string
			fits := false
			for _, each := range rule.([]any) {
				problems := c.check(file, each, value, at)
				fits = fits || problems == nil
				all = append(all, problems...)
			}
			if !fits {
				bad = append(bad, all...)
			}
		case "type":
			types, isList := rule.([]any)
			if !isList {
				types = []any{rule}
			}
			if !slices.ContainsFunc(types, func(t any) bool { return isType(value, t.(string)) }) {
				say("%v is no %v", value, rule)
			}
		case "enum":
			if !slices.Contains(rule.([]any), value) {
				say("%v is not one of %v", value, rule)
			}
		case "properties":
			bad = append(bad, c.checkProperties(file, sch, value, at)...)
		case "required":
			object, _ := value.(map[string]any)
			for _, name := range rule.([]any) {
				if _, there := object[name.(string)]; object != nil && !there {
					say("%v is missing", name)
				}
			}
		case "items":
			list, _ := value.([]any)
			for i, each := range list {
				bad = append(bad, c.check(file, rule, each, at+"/"+strconv.Itoa(i))...)
			}
		case "pattern":
			if text, isString := value.(string); isString && !regexp.MustCompile(rule.(string)).MatchString(text) {
				say("%q does not match %s", text, rule)
			}
		case "minimum":
			if n, isNumber := value.(float64); isNumber && n < rule.(float64) {
				say("%v is below %v", n, rule)
			}
		case "maximum":
			if n, isNumber := value.(float64); isNumber && n > rule.(float64) {
				say("%v is above %v", n, rule)
			}
		case "format":
			text, isString := value.(string)
			switch {
			case !isString:
			case rule == "date-time":
				if _, err := time.Parse(time.RFC3339, text); err != nil {
					say("%v", err)
				}
			case rule == "uri-reference":
				if !strings.HasPrefix(text, "/redfish/v1") && !strings.HasPrefix(text, "http://redfish.dmtf.org/") {
					say("%q is no reference of this service, and none of DMTF's", text)
				}
			default:
				say("format %v is not known here", rule)
			}
		case "versionAdded":
			if newer(rule.(string), c.version) {
				say("came with %v, the payload says %s", rule, c.version)
			}
		case "readonly", "additionalProperties", "patternProperties", "requiredOnCreate":
		default:
			say("keyword %s is not known here", keyword)
		}
	}
	return bad
}

func (c checker) checkRef(file, ref string, value any, at string) []string {
	target, definition, _ := strings.Cut(ref, "#/definitions/")
	if target != "" {
		file = strings.TrimSuffix(target[strings.LastIndexByte(target, '/')+1:], ".json")
		if file == "Message" {
			file = "Message.v1_3_0"
		}
	}
	if s, found := c.set[file]; found {
		if d, found := s["definitions"].(map[string]any)[definition]; found {
			inner := c
			if target != "" {
				inner.version = "v999_0_0" // another schema, with versions of its own
			}
			return inner.check(file, d, value, at)
		}
	}
	// Another resource: a reference to it may stand here, or all of it.
	if o, isObject := value.(map[string]any); isObject && o["@odata.id"] != nil {
		if odataType, _ := o["@odata.type"].(string); strings.Contains(odataType, ".") {
			bad := c.set.Check(strings.TrimPrefix(odataType[:strings.LastIndexByte(odataType, '.')], "#"), "", value)
			for i, b := range bad {
				bad[i] = at + b
			}
			return bad
		}
	}
	return c.check("odata-v4", map[string]any{"$ref": "#/definitions/idRef"}, value, at)
}

func (c checker) checkProperties(file string, sch map[string]any, value any, at string) (bad []string) {
	object, isObject := value.(map[string]any)
	if !isObject {
		return nil
	}
	known := sch["properties"].(map[string]any)
	patterns, _ := sch["patternProperties"].(map[string]any)
	for name, v := range object {
		where := at + "/" + name
		if rule, found := known[name]; found {
			bad = append(bad, c.check(file, rule, v, where)...)
			continue
		}
		matched := false
		for p, rule := range patterns {
			if regexp.MustCompile(p).MatchString(name) {
				matched = true
				bad = append(bad, c.check(file, rule, v, where)...)
			}
		}
		if !matched && sch["additionalProperties"] == false {
			bad = append(bad, where+": not in the schema")
		}
	}
	return bad
}

func isType(v any, t string) bool {
	switch v := v.(type) {
	case nil:
		return t == "null"
	case bool:
		return t == "boolean"
	case float64:
		return t == "number" || t == "integer" && v == math.Trunc(v)
	case string:
		return t == "string"
	case []any:
		return t == "array"
	}
	return t == "object"
}

// newer compares versions of the form v1_27_0; "" is no version at all.
func newer(a, b string) bool {
	return b != "" && slices.Compare(numbers(a), numbers(b)) > 0
}

func numbers(version string) (n []int) {
	for _, part := range strings.Split(strings.TrimPrefix(version, "v"), "_") {
		i, err := strconv.Atoi(part)
		if err != nil {
			panic(err)
		}
		n = append(n, i)
	}
	return n
}
