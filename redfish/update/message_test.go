package update

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/redfish/message"
)

// Every message says what DMTF's registry says; only what to do about it may be
// more.
func TestMessagesAreTheRegistrys(t *testing.T) {
	data, err := os.ReadFile("testdata/update.1.3.0.json")
	if err != nil {
		t.Fatal(err)
	}
	var registry struct {
		Messages map[string]struct {
			Message, MessageSeverity, Resolution string
			NumberOfArgs                         int
		}
	}
	if err := json.Unmarshal(data, &registry); err != nil {
		t.Fatal(err)
	}
	const image, why = "b.tar", "It is not signed"
	for _, m := range []message.Message{targetDetermined(image), transferring(image), awaitToUpdate(image), transferFailed(image, why), verificationFailed(image, why), notApplicable(image, why)} {
		key := strings.TrimPrefix(m.ID, "Update.1.3.")
		want, found := registry.Messages[key]
		if !found {
			t.Errorf("%s is not in the registry", m.ID)
			continue
		}
		text := want.Message
		for i, arg := range m.Args {
			text = strings.ReplaceAll(text, "%"+string(rune('1'+i)), arg)
		}
		if m.Text != text || m.Severity != want.MessageSeverity || len(m.Args) != want.NumberOfArgs {
			t.Errorf("%s:\n got %+v\nwant %+v", key, m, want)
		}
		if m.Resolution != want.Resolution && !strings.HasPrefix(m.Resolution, why+". ") {
			t.Errorf("%s: resolution %q", key, m.Resolution)
		}
	}
}
