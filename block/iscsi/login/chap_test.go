package login

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/nitrino/nitrino/block/iscsi/pdu"
)

// Responses that another implementation of the hashes worked out: to identifier 0
// and challenge 1, 2, 3 … by the initiator's secret, and to identifier 255 and
// "their own challenge" by the target's.
const (
	md5First      = "325463ce57e962dca058154ec05e9b80"
	md5Another    = "cd0ac51111e4944277ef22634a9ffc82"
	sha256First   = "53913047a4d6e4877fcd3793cded264c425f42217673eae40425e6c670bc2466"
	sha256Another = "7e0685cc4a838a916a4d86c63be342fdf76bc087bd538df4983d6bdc473ed70f"
	sha3First     = "c06ff34ba52dc73b3393907784438e960019f405943763ce2d3b0f3eb0785544"
	sha3Another   = "a7bd24423033bd820c1273288cb59bee5c91e5d384f28645bee89918a7952360"
)

// Each algorithm, with the numbers of IANA's registry, written both ways, in one
// direction and in both. The initiator's order decides.
func TestCHAP(t *testing.T) {
	for _, tt := range []struct {
		offer, chosen  string
		size           int    // of the challenge
		first, another string // what the initiator answers, and the target
	}{
		{"5", "5", 16, md5First, md5Another},
		{"6", "6", 20, "e28d4b4016a476ba386f7d8025ab78573eec8be0", "60fffe1486295f14a612a3a32cc8b6f397d61c57"},
		{"7", "7", 32, sha256First, sha256Another},
		{"8", "8", 32, sha3First, sha3Another},
		{"5,7", "5", 16, md5First, md5Another},
		{"7,5", "7", 32, sha256First, sha256Another},
		{"99,0x8,7", "8", 32, sha3First, sha3Another},
	} {
		first, err := hex.DecodeString(tt.first)
		if err != nil {
			t.Fatal(err)
		}
		for _, encode := range []func([]byte) string{
			func(b []byte) string { return "0x" + hex.EncodeToString(b) },
			func(b []byte) string { return fmt.Sprintf("0X%X", b) },
			func(b []byte) string { return "0b" + base64.StdEncoding.EncodeToString(b) },
			func(b []byte) string { return "0B" + base64.RawStdEncoding.EncodeToString(b) },
		} {
			for _, mutual := range []bool{false, true} {
				l := New(policy(mutualTarget()), 1)
				if _, answer, _, err := ask(t, l, toOp, names+" AuthMethod=None,CHAP"); err != nil || answer != "TargetPortalGroupTag=1 AuthMethod=CHAP" {
					t.Fatalf("got %s, %v", answer, err)
				}
				_, answer, _, err := ask(t, l, 0, "CHAP_A="+tt.offer)
				challenge := make([]byte, max(tt.size, 16))
				for i := range challenge {
					challenge[i] = byte(1 + i)
				}
				if want := "CHAP_A=" + tt.chosen + " CHAP_I=0 CHAP_C=0x" + hex.EncodeToString(challenge); err != nil || answer != want {
					t.Fatalf("CHAP_A=%s: got %s, %v, want %s", tt.offer, answer, err, want)
				}
				text, want := "CHAP_N=host1 CHAP_R="+encode(first), ""
				if mutual {
					text += " CHAP_I=0xff CHAP_C=" + encode([]byte("their own challenge"))
					want = "CHAP_N=target1 CHAP_R=0x" + tt.another
				}
				response, answer, done, err := ask(t, l, secToEnd, text)
				if err != nil || answer != want || response[1] != secToEnd {
					t.Errorf("CHAP_A=%s: got %s, %v, flags %#x, want %s", tt.offer, answer, err, response[1], want)
				}
				if done == nil || done.User != "host1" {
					t.Errorf("CHAP_A=%s: got %+v", tt.offer, done)
				}
			}
		}
	}
}

// RFC 1994 and RFC 7143 leave the stage's end to the initiator: it may go on in a
// request of its own.
func TestCHAPWithoutHurry(t *testing.T) {
	l := New(policy(chapTarget()), 1)
	for i, s := range []said{
		{0, names}, {0, "AuthMethod=CHAP"}, {0, ""}, {toOp, "CHAP_A=5"},
		{0, "CHAP_N=host1 CHAP_R=0x325463CE57E962DCA058154EC05E9B80 X-other=1"}, {toOp, ""}, {opToEnd, ""},
	} {
		response, _, done, err := ask(t, l, s.flags, s.text)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if got, want := response[1]&transit != 0, i >= 5; got != want {
			t.Errorf("request %d: T is %v, want %v", i, got, want)
		}
		if got, want := done != nil, i == 6; got != want {
			t.Errorf("request %d: done is %v, want %v", i, got, want)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("no randomness") }

func TestCHAPWithoutRandomness(t *testing.T) {
	p := policy(chapTarget())
	p.Rand = broken{}
	l := New(p, 1)
	if _, _, _, err := ask(t, l, 0, names+" AuthMethod=CHAP"); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := ask(t, l, 0, "CHAP_A=5"); !refused(err, TargetError) {
		t.Errorf("got %v", err)
	}
}

// Whatever comes, in however many requests: no login ends without CHAP, answers
// are as short as promised, and a refusal is the end.
func FuzzLogin(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add(frames(said{toOp, names + " AuthMethod=CHAP"}, said{0, "CHAP_A=5"}, said{toOp, "CHAP_N=host1 CHAP_R=0x325463CE57E962DCA058154EC05E9B81"}, said{opToEnd, ""}), true)
	f.Add(frames(said{toOp, names + " AuthMethod=CHAP,None"}, said{opToEnd, "HeaderDigest=CRC32C,None MaxBurstLength=0x1000 FirstBurstLength=512 X-a=1"}), false)
	f.Add(frames(said{inOp | goesOn, "InitiatorName=" + host + " TargetN"}, said{opToEnd, "ame=" + tgt}), false)
	f.Fuzz(func(t *testing.T, b []byte, secret bool) {
		target := Target{}
		if secret {
			target = mutualTarget()
		}
		p := policy(target)
		p.Rand = zero{}
		l := New(p, 1)
		var response pdu.Header
		for len(b) >= 4 {
			n := min(int(b[2])<<8|int(b[3]), len(b)-4)
			h := request(b[1], b[4:4+n])
			h[0] ^= b[0]
			text, done, err := l.Step(h, b[4:4+n], &response)
			b = b[4+n:]
			if response.Opcode() != pdu.OpLoginResponse || response.DataLength() != len(text) || len(text) > MaxData {
				t.Fatalf("got %x with %d bytes", response, len(text))
			}
			switch {
			case err != nil:
				if e, ok := errors.AsType[*Error](err); !ok || e.Status == Success || done != nil || response[36] != byte(e.Status>>8) {
					t.Fatalf("got %v, %v, %x", done, err, response)
				}
				if _, _, err := l.Step(h, nil, &response); !refused(err, InvalidDuringLogin) {
					t.Fatalf("after a refusal: %v", err)
				}
				return
			case response[36] != 0:
				t.Fatalf("status %x without an error", response[36:38])
			case done != nil:
				if secret && done.User != "host1" {
					t.Fatalf("in without a secret: %+v", done)
				}
				if done.FirstBurstLength > done.MaxBurstLength || done.MaxSendDataSegmentLength < minLength || done.MaxBurstLength < minLength {
					t.Fatalf("agreed on %+v", done)
				}
				return
			}
		}
	})
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// frames makes what FuzzLogin reads: two bytes to change the header with, the
// length, the text.
func frames(all ...said) (b []byte) {
	for _, s := range all {
		text := zeros(s.text)
		b = append(b, 0, s.flags, byte(len(text)>>8), byte(len(text)))
		b = append(b, text...)
	}
	return b
}
