package settings

import (
	"errors"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

var errNotDuration = errors.New(`not a duration (want for example "5s")`)

// decodeOptions and encodeOptions make documents strict and durations words.
func decodeOptions() json.Options {
	return json.JoinOptions(
		json.RejectUnknownMembers(true),
		json.WithUnmarshalers(json.UnmarshalFunc(func(text []byte, d *time.Duration) error {
			if string(text) == "null" {
				*d = 0
				return nil
			}
			s, err := jsontext.AppendUnquote(nil, text)
			if err != nil {
				return errNotDuration
			}
			v, err := time.ParseDuration(string(s))
			if err != nil {
				return errNotDuration
			}
			*d = v
			return nil
		})))
}

func encodeOptions() json.Options {
	return json.JoinOptions(
		json.Deterministic(true),
		json.WithMarshalers(json.MarshalFunc(func(d time.Duration) ([]byte, error) {
			return jsontext.AppendQuote(nil, d.String())
		})))
}
