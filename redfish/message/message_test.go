package message

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
	if !strings.HasPrefix(registry.ID, BaseRegistry) {
		t.Errorf("registry %s, messages %s", registry.ID, BaseRegistry)
	}
	const a, b, c = "first", "second", "third"
	for _, m := range []Message{
		GeneralError(400, "None."), PreconditionFailed(), HeaderInvalid(a, 400), TemporarilyUnavailable(), Success(), PropertyDuplicate(a),
		PropertyUnknown(a), PropertyNotWritable(a), PropertyMissing(a), PropertyValueTypeError(a, b), PropertyValueFormatError(a, b),
		PropertyValueNotInList(a, b), PropertyValueOutOfRange(a, b), PropertyValueError(a), PropertyValueConflict(a, b), PropertyValueIncorrect(a, b),
		PropertyValueExternalConflict(a, b), PropertyNotUpdated(a), StringValueTooLong(a, 7), ArraySizeTooLong(a, 7), ActionNotSupported(a),
		ActionParameterMissing(a, b), ActionParameterDuplicate(a, b), ActionParameterUnknown(a, b), ActionParameterNotSupported(a, b),
		ActionParameterValueTypeError(a, b, c), ActionParameterValueFormatError(a, b, c), ActionParameterValueNotInList(a, b, c),
		ActionParameterValueOutOfRange(a, b, c), ActionParameterValueError(a, b), ActionParameterValueConflict(a, b), QueryParameterUnsupported(a),
		QueryParameterValueTypeError(a, b), QueryParameterValueFormatError(a, b), QueryParameterValueError(a), QueryParameterOutOfRange(a, b, c),
		QueryNotSupportedOnResource(), QueryNotSupportedOnOperation(), QueryCombinationInvalid(), SessionLimitExceeded(), EventSubscriptionLimitExceeded(),
		CreateLimitReachedForResource(), ResourceCannotBeDeleted(), ResourceAlreadyExists(a, b, c), ResourceNotFound(a, b), ResourceMissingAtURI(a),
		ResourceAtUriUnauthorized(a, b), ResourceAtUriInUnknownFormat(a), CouldNotEstablishConnection(a), AccessDenied(a), SourceDoesNotSupportProtocol(a, b),
		ResourceInUse(), ResourceInStandby(), ResourceExhaustion(a), InsufficientStorage(), InvalidURI(a), OperationNotAllowed(), OperationFailed(),
		OperationTimeout(), PayloadTooLarge(), MalformedJSON(), UnrecognizedRequestBody(), MissingOrMalformedPart(), EmptyJSON(), NoOperation(),
		HeaderMissing(a), PreconditionRequired(), Unauthorized(), InsufficientPrivilege(), NoValidSession(), RestrictedRole(a), PasswordChangeRequired(a),
		PasswordIncorrectLength(), PasswordComplexityNotMet(), AccountModified(), PropertyModified(), PropertyValueModified(a, b), ServiceDisabled(a),
		EventBufferExceeded(), InternalError(), UndeterminedFault(a),
	} {
		key := strings.TrimPrefix(m.ID, BaseRegistry)
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
		if m.Status < 400 && m.Severity != OK && key != "PropertyValueModified" && key != "EventBufferExceeded" {
			t.Errorf("%s: status %d", key, m.Status)
		}
	}
}

// What a client sent stands in a message as it is, and short.
func TestMessageArgs(t *testing.T) {
	m := PropertyValueNotInList("%2%1", "Name")
	if want := "The value '%2%1' for the property Name is not in the list of acceptable values."; m.Text != want {
		t.Errorf("got %q, want %q", m.Text, want)
	}
	if m = PropertyUnknown(strings.Repeat("é", 5000)); len(m.Text) > 400 || strings.ContainsRune(m.Text, '\uFFFD') {
		t.Errorf("got %d bytes: %q", len(m.Text), m.Text)
	}
	got := []string{Show(nil), Show(true), Show(json.Number("1e3")), Show([]any{1}), Show(struct{}{}), Show("s")}
	if want := []string{"null", "true", "1e3", "[array]", "{object}", "s"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
