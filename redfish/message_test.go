package redfish

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// Every message must say what DMTF's registry says.
func TestMessagesAreTheRegistrys(t *testing.T) {
	data, err := os.ReadFile("testdata/base.1.22.1.json")
	if err != nil {
		t.Fatal(err)
	}
	var registry struct {
		ID       string `json:"Id"`
		Messages map[string]struct {
			Message         string
			MessageSeverity string
			NumberOfArgs    int
			Resolution      string
		}
	}
	if err := json.Unmarshal(data, &registry); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(registry.ID, baseRegistry) {
		t.Errorf("registry %s, messages %s", registry.ID, baseRegistry)
	}
	const a, b, c = "first", "second", "third"
	all := []message{
		generalError(400, "None."), unauthorized(), insufficientPrivilege(), invalidURI(a), resourceNotFound(a, b), operationNotAllowed(),
		headerInvalid(a, 400), queryParameterUnsupported(a), payloadTooLarge(), malformedJSON(), unrecognizedRequestBody(), emptyJSON(),
		noOperation(), propertyDuplicate(a), propertyUnknown(a), propertyNotWritable(a), propertyMissing(a), propertyValueTypeError(a, b),
		propertyValueNotInList(a, b), propertyValueOutOfRange(a, b), propertyValueConflict(a, b), propertyNotUpdated(a),
		actionParameterMissing(a, b), actionParameterDuplicate(a, b), actionParameterUnknown(a, b), actionParameterValueTypeError(a, b, c),
		actionParameterValueNotInList(a, b, c), resourceInUse(), resourceInStandby(), temporarilyUnavailable(), internalError(),
	}
	set := loadSchemas(t)
	for _, m := range all {
		key := strings.TrimPrefix(m.ID, baseRegistry)
		want, found := registry.Messages[key]
		if !found {
			t.Errorf("%s is not in the registry", m.ID)
			continue
		}
		text := want.Message
		for i, arg := range m.Args {
			text = strings.ReplaceAll(text, "%"+string(rune('1'+i)), arg)
		}
		if m.Text != text || m.Severity != want.MessageSeverity || m.Resolution != want.Resolution || len(m.Args) != want.NumberOfArgs {
			t.Errorf("%s:\n got %+v\nwant %+v", key, m, want)
		}
		if m.status < 400 {
			t.Errorf("%s: status %d", key, m.status)
		}
		delete(registry.Messages, key)
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			t.Fatal(err)
		}
		if bad := set.check("Message.v1_3_0", "Message", v); bad != nil {
			t.Errorf("%s: %v", key, bad)
		}
	}
	for key := range registry.Messages {
		t.Errorf("%s is in testdata and never sent", key)
	}
}

// What a client sent stands in a message as it is, and short.
func TestMessageArgs(t *testing.T) {
	m := propertyValueNotInList("%2%1", "Name")
	if want := "The value '%2%1' for the property Name is not in the list of acceptable values."; m.Text != want {
		t.Errorf("got %q, want %q", m.Text, want)
	}
	if m = propertyUnknown(strings.Repeat("é", 5000)); len(m.Text) > 400 || strings.ContainsRune(m.Text, '\uFFFD') {
		t.Errorf("got %d bytes: %q", len(m.Text), m.Text)
	}
	got := []string{show(nil), show(true), show(json.Number("1e3")), show([]any{1}), show(object{}), show("s")}
	if want := []string{"null", "true", "1e3", "[array]", "{object}", "s"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
