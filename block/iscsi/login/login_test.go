package login

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nitrino/nitrino/block"
	"github.com/nitrino/nitrino/block/iscsi/pdu"
)

const (
	host  = "iqn.2026-01.lab:host1"
	tgt   = "iqn.2026-01.lab:tgt"
	names = "InitiatorName=" + host + " TargetName=" + tgt
)

// Bits of a Login Request's second byte: T, C, and from a stage to the next.
const (
	transit  = 0x80
	goesOn   = 0x40
	toOp     = transit | 0x01 // security to operational
	secToEnd = transit | 0x03
	inOp     = 0x04
	opToEnd  = transit | 0x07
)

// counting gives 0, 1, 2 …
type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.n
		c.n++
	}
	return len(p), nil
}

// policy lets everybody in to tgt and to discovery.
func policy(t Target) *Policy {
	return &Policy{
		Lookup: func(initiator, target string) (Target, Status) {
			switch {
			case target != "" && target != tgt:
				return Target{}, NotFound
			case initiator != host && !strings.HasPrefix(initiator, "iqn.2008-11.org.linux-kvm"):
				return Target{}, AuthorizationFailure
			}
			return t, Success
		},
		Ours: Tuned(), Window: 128, Rand: &counting{},
	}
}

func chapTarget() Target {
	return Target{CHAP: block.Credentials{User: "host1", Secret: "not-so-secret-1"}}
}

func mutualTarget() Target {
	t := chapTarget()
	t.Mutual = block.Credentials{User: "target1", Secret: "not-so-secret-2"}
	return t
}

// zeros turns spaces into the ends of keys.
func zeros(text string) []byte {
	if text == "" {
		return nil
	}
	return append(bytes.ReplaceAll([]byte(text), []byte{' '}, []byte{0}), 0)
}

func spaces(text []byte) string {
	return strings.ReplaceAll(strings.TrimSuffix(string(text), "\x00"), "\x00", " ")
}

// request is one of a usual initiator.
func request(flags byte, data []byte) *pdu.Header {
	h := pdu.Header{0: 0x43, 1: flags}
	h.SetDataLength(len(data))
	copy(h[8:], []byte{0x80, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 9, 0, 7}) // ISID, TSIH 0, ITT 9, CID 7
	binary.BigEndian.PutUint32(h[24:], 100)                          // CmdSN
	binary.BigEndian.PutUint32(h[28:], 200)                          // ExpStatSN
	return &h
}

// ask sends text, in which spaces stand between keys.
func ask(t testing.TB, l *Login, flags byte, text string) (response pdu.Header, answer string, done *Result, err error) {
	t.Helper()
	data := zeros(text)
	got, done, err := l.Step(request(flags, data), data, &response)
	status := Status(response[36])<<8 | Status(response[37])
	if e, ok := errors.AsType[*Error](err); err != nil && (!ok || e.Status != status || e.Error() == "" || done != nil || len(got) > 0) {
		t.Errorf("%s: got error %v, status %04x, text %q", text, err, status, got)
	}
	if err == nil && status != Success {
		t.Errorf("%s: got status %04x without an error", text, status)
	}
	if response.DataLength() != len(got) || response.Opcode() != pdu.OpLoginResponse {
		t.Errorf("%s: got header %x for %q", text, response, got)
	}
	return response, spaces(got), done, err
}

// Logins of real initiators, as they were recorded: iPXE, open-iscsi, libiscsi,
// QEMU. Each line is the direction, the header and the text, with spaces between
// keys.
func TestRecorded(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var l *Login
			var response pdu.Header
			var text []byte
			begun := 0
			for line := range strings.Lines(string(b)) {
				direction, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
				digits, want, _ := strings.Cut(rest, " ")
				raw, err := hex.DecodeString(digits)
				if err != nil || len(raw) != pdu.HeaderLength {
					t.Fatalf("%q: %v", line, err)
				}
				h := pdu.Header(raw)
				if direction == ">" {
					if strings.HasPrefix(want, "InitiatorName") && h[1]&0x0c == 0 || l == nil {
						begun++
						l = New(policy(recordedTarget(file)), 1)
					}
					var done *Result
					text, done, _ = l.Step(&h, zeros(want), &response) // a refusal is in the response
					if done != nil {
						response.SetTSIH(1)
					}
					continue
				}
				if got := spaces(text); got != want || response != h {
					t.Errorf("got  %x %s\nwant %x %s", response, got, h, want)
				}
			}
			if begun != 1 {
				t.Errorf("got %d logins, want 1", begun)
			}
		})
	}
}

// recordedTarget is what was logged in to; the file's name says it.
func recordedTarget(file string) Target {
	switch name := strings.TrimSuffix(filepath.Base(file), ".txt"); {
	case strings.HasSuffix(name, "-mutual"):
		return mutualTarget()
	case strings.HasSuffix(name, "chap"), strings.HasSuffix(name, "-secret"), strings.HasSuffix(name, "-refused"):
		return chapTarget()
	}
	return Target{}
}

// What Linux offers is what this target is tuned to.
func TestLinux(t *testing.T) {
	l := New(policy(Target{Alias: "disks"}), 3)
	response, answer, done, err := ask(t, l, opToEnd, "InitiatorName="+host+" InitiatorAlias=(none) TargetName="+tgt+" SessionType=Normal "+
		"HeaderDigest=CRC32C,None DataDigest=None DefaultTime2Wait=2 DefaultTime2Retain=0 IFMarker=No OFMarker=No ErrorRecoveryLevel=0 "+
		"InitialR2T=No ImmediateData=Yes MaxBurstLength=16776192 FirstBurstLength=262144 MaxOutstandingR2T=1 MaxConnections=1 "+
		"DataPDUInOrder=Yes DataSequenceInOrder=Yes MaxRecvDataSegmentLength=262144")
	const want = "TargetPortalGroupTag=3 TargetAlias=disks MaxBurstLength=1048576 HeaderDigest=CRC32C DataDigest=None DefaultTime2Wait=2 " +
		"DefaultTime2Retain=0 IFMarker=No OFMarker=No ErrorRecoveryLevel=0 InitialR2T=No ImmediateData=Yes FirstBurstLength=262144 " +
		"MaxOutstandingR2T=1 MaxConnections=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes MaxRecvDataSegmentLength=262144"
	if err != nil || answer != want {
		t.Errorf("got  %s, %v\nwant %s", answer, err, want)
	}
	if done == nil {
		t.Fatal("the login goes on")
	}
	agreed := Tuned()
	agreed.DataDigest, agreed.MaxOutstandingR2T, agreed.MaxSendDataSegmentLength = false, 1, 262144
	wanted := Result{
		Initiator: host, InitiatorAlias: "(none)", ISID: [6]byte{0x80, 1, 2, 3, 4, 5}, CID: 7, Target: tgt,
		Parameters: agreed, StatSN: 201, ExpCmdSN: 100,
	}
	if *done != wanted {
		t.Errorf("\n got %+v\nwant %+v", *done, wanted)
	}
	if got, want := [3]uint32{response.StatSN(), response.ExpCmdSN(), response.MaxCmdSN()}, [3]uint32{200, 100, 227}; got != want {
		t.Errorf("numbers: got %v, want %v", got, want)
	}
	if response[1] != opToEnd {
		t.Errorf("flags: got %#x, want %#x", response[1], opToEnd)
	}
	if _, _, _, err := ask(t, l, opToEnd, ""); !refused(err, InvalidDuringLogin) {
		t.Errorf("after its end: got %v", err)
	}
}

// refused reports whether err refuses with s.
func refused(err error, s Status) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == s
}

// Each key: what is answered, and what is agreed on, told as an inquiry would be.
func TestKeys(t *testing.T) {
	for _, tt := range []struct{ offer, answer, agreed string }{
		{"HeaderDigest=CRC32C", "CRC32C", "CRC32C"},
		{"HeaderDigest=None,CRC32C", "None", "None"},
		{"HeaderDigest=CRC32C,None", "CRC32C", "CRC32C"},
		{"HeaderDigest=X-md5,CRC32C", "CRC32C", "CRC32C"},
		{"HeaderDigest=X-md5", "Reject", "None"},
		{"HeaderDigest=", "Reject", "None"},
		{"DataDigest=CRC32C,None", "CRC32C", "CRC32C"},
		{"DataDigest=None", "None", "None"},
		{"MaxConnections=8", "1", "1"},
		{"MaxConnections=0", "Reject", "1"},
		{"MaxConnections=65536", "Reject", "1"},
		{"InitialR2T=Yes", "Yes", "Yes"},
		{"InitialR2T=No", "No", "No"},
		{"InitialR2T=no", "Reject", "Yes"},
		{"ImmediateData=Yes", "Yes", "Yes"},
		{"ImmediateData=No", "No", "No"},
		{"ImmediateData=1", "Reject", "Yes"},
		{"MaxRecvDataSegmentLength=65536", "262144", "262144"}, // a declaration of each side
		{"MaxRecvDataSegmentLength=16777215", "262144", "262144"},
		{"MaxBurstLength=16777215", "1048576", "1048576"},
		{"MaxBurstLength=0x20000", "131072", "131072"},
		{"MaxBurstLength=512", "512", "512"},
		{"MaxBurstLength=511", "Reject", "262144"},
		{"MaxBurstLength=16777216", "Reject", "262144"},
		{"MaxBurstLength=-1", "Reject", "262144"},
		{"MaxBurstLength=0x", "Reject", "262144"},
		{"MaxBurstLength=99999999999999999999999", "Reject", "262144"},
		{"FirstBurstLength=16777215", "262144", "262144"},
		{"FirstBurstLength=4096", "4096", "4096"},
		{"FirstBurstLength=1", "Reject", "65536"},
		{"FirstBurstLength=131072 MaxBurstLength=65536", "65536", "65536"},
		{"DefaultTime2Wait=0", "2", "2"},
		{"DefaultTime2Wait=3600", "3600", "3600"},
		{"DefaultTime2Wait=3601", "Reject", "2"},
		{"DefaultTime2Retain=20", "0", "0"},
		{"DefaultTime2Retain=3601", "Reject", "20"},
		{"MaxOutstandingR2T=16", "8", "8"},
		{"MaxOutstandingR2T=4", "4", "4"},
		{"MaxOutstandingR2T=0", "Reject", "1"},
		{"DataPDUInOrder=No", "Yes", "Yes"},
		{"DataPDUInOrder=Maybe", "Reject", "Yes"},
		{"DataSequenceInOrder=No", "Yes", "Yes"},
		{"ErrorRecoveryLevel=2", "0", "0"},
		{"ErrorRecoveryLevel=3", "Reject", "0"},
		{"TaskReporting=FastAbort,RFC3720", "RFC3720", "RFC3720"},
		{"TaskReporting=FastAbort", "Reject", "RFC3720"},
		{"iSCSIProtocolLevel=2", "1", "1"},
		{"iSCSIProtocolLevel=32", "Reject", "1"},
		{"IFMarker=Yes", "No", ""},
		{"OFMarker=Yes", "No", ""},
		{"IFMarkInt=2048~8192", "Reject", ""},
		{"OFMarkInt=2048~8192", "Reject", ""},
		{"SendTargets=All", "Reject", ""},
		{"X-com.example.fast=Yes", "NotUnderstood", ""},
		{"Whatever=1", "NotUnderstood", ""},
		{"TargetAlias=NotUnderstood", "", ""}, // it answers ours
		{"X-com.example.fast=Irrelevant", "", ""},
	} {
		_, answer, done, err := ask(t, New(policy(Target{}), 1), opToEnd, names+" "+tt.offer)
		if err != nil || done == nil {
			t.Errorf("%s: got error %v", tt.offer, err)
			continue
		}
		key, _, _ := strings.Cut(tt.offer, "=")
		offers, err := parse(zeros(answer))
		if err != nil {
			t.Errorf("%s: got answer %s", tt.offer, answer)
		}
		if got, _ := offers.take(key); got != tt.answer {
			t.Errorf("%s: got %q, want %q", tt.offer, got, tt.answer)
		}
		if got, _ := done.value(key); got != tt.agreed {
			t.Errorf("%s: agreed on %q, want %q", tt.offer, got, tt.agreed)
		}
	}
	without := policy(Target{})
	without.Ours.HeaderDigest = false
	if _, answer, done, err := ask(t, New(without, 1), opToEnd, names+" HeaderDigest=CRC32C,None"); err != nil || done.HeaderDigest || !strings.Contains(answer, "HeaderDigest=None") {
		t.Errorf("without digests: got %s, %v", answer, err)
	}
}

// What nobody negotiates has its default, but for what we declare.
func TestDefaults(t *testing.T) {
	_, answer, done, err := ask(t, New(policy(Target{}), 1), opToEnd, names)
	want := Defaults()
	want.MaxRecvDataSegmentLength = 262144
	if err != nil || answer != "TargetPortalGroupTag=1 MaxRecvDataSegmentLength=262144" || done.Parameters != want {
		t.Errorf("got %s, %+v, %v; want %+v", answer, done, err, want)
	}
	// Without an operational stage there is nowhere to declare it.
	_, answer, done, err = ask(t, New(policy(Target{}), 1), secToEnd, names+" AuthMethod=None")
	if err != nil || answer != "TargetPortalGroupTag=1 AuthMethod=None" || done.Parameters != Defaults() {
		t.Errorf("got %s, %+v, %v; want %+v", answer, done, err, Defaults())
	}
	// MaxBurstLength comes down after FirstBurstLength was agreed on.
	l := New(policy(Target{}), 1)
	if _, _, _, err = ask(t, l, inOp, names+" FirstBurstLength=65536"); err != nil {
		t.Fatal(err)
	}
	if _, _, done, err = ask(t, l, opToEnd, "MaxBurstLength=8192"); err != nil || done.FirstBurstLength != 8192 {
		t.Errorf("got %+v, %v; want FirstBurstLength 8192", done, err)
	}
}

func TestDiscovery(t *testing.T) {
	_, answer, done, err := ask(t, New(policy(Target{}), 1), opToEnd, "InitiatorName="+strings.ToUpper(host)+" SessionType=Discovery "+
		"MaxConnections=1 InitialR2T=No ImmediateData=Yes MaxBurstLength=1024 FirstBurstLength=1024 MaxOutstandingR2T=1 DataPDUInOrder=Yes "+
		"DataSequenceInOrder=Yes TaskReporting=RFC3720 iSCSIProtocolLevel=1 HeaderDigest=None ErrorRecoveryLevel=0 MaxRecvDataSegmentLength=32768")
	const want = "MaxBurstLength=Irrelevant MaxConnections=Irrelevant InitialR2T=Irrelevant ImmediateData=Irrelevant FirstBurstLength=Irrelevant " +
		"MaxOutstandingR2T=Irrelevant DataPDUInOrder=Irrelevant DataSequenceInOrder=Irrelevant TaskReporting=Irrelevant " +
		"iSCSIProtocolLevel=Irrelevant HeaderDigest=None ErrorRecoveryLevel=0 MaxRecvDataSegmentLength=262144"
	if err != nil || answer != want {
		t.Errorf("got  %s, %v\nwant %s", answer, err, want)
	}
	if done == nil || !done.Discovery || done.Target != "" || done.Initiator != host || done.MaxSendDataSegmentLength != 32768 {
		t.Errorf("got %+v", done)
	}
}

// A said is one request of a login, with its flags.
type said struct {
	flags byte
	text  string
}

func TestRefusals(t *testing.T) {
	chapped := []said{{0, names + " AuthMethod=CHAP"}, {0, "CHAP_A=5"}}
	many := make([]said, maxSteps+1)
	many[0] = said{inOp, names}
	for i := range many[1:] {
		many[1+i] = said{inOp, ""}
	}
	keys := ""
	for i := range maxKeys + 1 {
		keys += " X" + strings.Repeat("a", 1+i%40) + strings.Repeat("b", 1+i/40) + "=1"
	}
	for _, tt := range []struct {
		name   string
		target Target
		say    []said // the last is what is refused
		want   Status
	}{
		{"no InitiatorName", Target{}, []said{{opToEnd, "TargetName=" + tgt}}, MissingParameter},
		{"nothing", Target{}, []said{{opToEnd, ""}}, MissingParameter},
		{"no TargetName", Target{}, []said{{opToEnd, "InitiatorName=" + host}}, MissingParameter},
		{"no TargetName in a normal session", Target{}, []said{{opToEnd, "InitiatorName=" + host + " SessionType=Normal"}}, MissingParameter},
		{"an initiator name that is none", Target{}, []said{{opToEnd, "InitiatorName=me TargetName=" + tgt}}, InitiatorError},
		{"an initiator name with bad characters", Target{}, []said{{opToEnd, "InitiatorName=iqn.2026-01.lab:a/b TargetName=" + tgt}}, InitiatorError},
		{"an initiator name too long", Target{}, []said{{opToEnd, "InitiatorName=iqn." + strings.Repeat("a", 220) + " TargetName=" + tgt}}, InitiatorError},
		{"a target name that is none", Target{}, []said{{opToEnd, "InitiatorName=" + host + " TargetName=disk"}}, NotFound},
		{"another target", Target{}, []said{{opToEnd, "InitiatorName=" + host + " TargetName=" + tgt + "2"}}, NotFound},
		{"another initiator", Target{}, []said{{opToEnd, "InitiatorName=" + host + "2 TargetName=" + tgt}}, AuthorizationFailure},
		{"another kind of session", Target{}, []said{{opToEnd, names + " SessionType=Other"}}, SessionTypeNotSupported},
		{"a key twice", Target{}, []said{{opToEnd, names + " MaxConnections=1 MaxConnections=1"}}, InitiatorError},
		{"a key again", Target{}, []said{{inOp, names + " MaxConnections=1"}, {opToEnd, "MaxConnections=1"}}, InitiatorError},
		{"another name later", Target{}, []said{{inOp, names}, {opToEnd, "InitiatorName=" + host + "2"}}, InitiatorError},
		{"a kind of session later", Target{}, []said{{inOp, names}, {opToEnd, "SessionType=Discovery"}}, InitiatorError},
		{"no equals sign", Target{}, []said{{opToEnd, names + " MaxConnections"}}, InitiatorError},
		{"a key without a name", Target{}, []said{{opToEnd, names + " =1"}}, InitiatorError},
		{"a key's name too long", Target{}, []said{{opToEnd, names + " X" + strings.Repeat("a", maxKey) + "=1"}}, InitiatorError},
		{"a key's name of other letters", Target{}, []said{{opToEnd, names + " X\xc3\xa4=1"}}, InitiatorError},
		{"a value that is no UTF-8", Target{}, []said{{opToEnd, names + " InitiatorAlias=\xff"}}, InitiatorError},
		{"a value with a new line", Target{}, []said{{opToEnd, names + " InitiatorAlias=a\nb"}}, InitiatorError},
		{"too many keys", Target{}, []said{{opToEnd, names + keys}}, InitiatorError},
		{"MaxRecvDataSegmentLength too small", Target{}, []said{{opToEnd, names + " MaxRecvDataSegmentLength=511"}}, InitiatorError},
		{"a target's key", Target{}, []said{{opToEnd, names + " TargetAlias=x"}}, InitiatorError},
		{"a target's key in the security stage", Target{}, []said{{toOp, names + " TargetPortalGroupTag=1"}}, InitiatorError},
		{"AuthMethod in the operational stage", Target{}, []said{{opToEnd, names + " AuthMethod=None"}}, InitiatorError},
		{"CHAP in the operational stage", Target{}, []said{{opToEnd, names + " CHAP_A=5"}}, InitiatorError},
		{"a parameter in the security stage", Target{}, []said{{toOp, names + " AuthMethod=None MaxConnections=1"}}, InitiatorError},
		{"CHAP_A where nobody asked", Target{}, []said{{toOp, names + " CHAP_A=5"}}, InitiatorError},
		{"another stage", Target{}, []said{{0, names}, {opToEnd, ""}}, InitiatorError},
		{"a stage before", Target{}, []said{{toOp, names}, {secToEnd, ""}}, InitiatorError},
		{"T and C", Target{}, []said{{opToEnd | goesOn, names}}, InitiatorError},
		{"stage 2", Target{}, []said{{0x08, names}}, InitiatorError},
		{"too much at once", Target{}, []said{{inOp | goesOn, strings.Repeat("a", MaxData)}}, InitiatorError},
		{"too many requests", Target{}, many, InitiatorError},
		{"only CHAP where there is none", Target{}, []said{{toOp, names + " AuthMethod=CHAP"}}, AuthenticationFailure},
		{"no method at all", Target{}, []said{{toOp, names + " AuthMethod=KRB5"}}, AuthenticationFailure},
		{"no CHAP by stage", chapTarget(), []said{{opToEnd, names}}, AuthenticationFailure},
		{"no CHAP by silence", chapTarget(), []said{{toOp, names}}, AuthenticationFailure},
		{"no CHAP by silence at last", chapTarget(), []said{{0, names}, {toOp, ""}}, AuthenticationFailure},
		{"no CHAP by method", chapTarget(), []said{{toOp, names + " AuthMethod=None"}}, AuthenticationFailure},
		{"no CHAP in discovery", chapTarget(), []said{{opToEnd, "InitiatorName=" + host + " SessionType=Discovery"}}, AuthenticationFailure},
		{"AuthMethod twice", chapTarget(), []said{{0, names + " AuthMethod=CHAP"}, {0, "AuthMethod=CHAP"}}, InitiatorError},
		{"CHAP_A with AuthMethod", chapTarget(), []said{{0, names + " AuthMethod=CHAP CHAP_A=5"}}, InitiatorError},
		{"CHAP_R too early", chapTarget(), []said{{0, names + " AuthMethod=CHAP"}, {0, "CHAP_N=host1 CHAP_R=0x00"}}, InitiatorError},
		{"unknown algorithms", chapTarget(), []said{{0, names + " AuthMethod=CHAP"}, {0, "CHAP_A=1,99,x"}}, AuthenticationFailure},
		{"CHAP without an answer", chapTarget(), append(chapped, said{toOp, ""}), AuthenticationFailure},
		{"CHAP without a name", chapTarget(), append(chapped, said{toOp, "CHAP_R=0x325463CE57E962DCA058154EC05E9B80"}), AuthenticationFailure},
		{"CHAP without a response", chapTarget(), append(chapped, said{toOp, "CHAP_N=host1"}), AuthenticationFailure},
		{"another user", chapTarget(), append(chapped, said{toOp, "CHAP_N=host2 CHAP_R=0x325463CE57E962DCA058154EC05E9B80"}), AuthenticationFailure},
		{"another response", chapTarget(), append(chapped, said{toOp, "CHAP_N=host1 CHAP_R=0x325463CE57E962DCA058154EC05E9B81"}), AuthenticationFailure},
		{"a short response", chapTarget(), append(chapped, said{toOp, "CHAP_N=host1 CHAP_R=0x32"}), AuthenticationFailure},
		{"a response that is no number", chapTarget(), append(chapped, said{toOp, "CHAP_N=host1 CHAP_R=325463CE57E962DCA058154EC05E9B80"}), AuthenticationFailure},
		{"a response that is no hex", chapTarget(), append(chapped, said{toOp, "CHAP_N=host1 CHAP_R=0xzz"}), AuthenticationFailure},
		{"no secret for mutual CHAP", chapTarget(), append(chapped, said{toOp, "CHAP_N=host1 CHAP_R=0x325463CE57E962DCA058154EC05E9B80 CHAP_I=1 CHAP_C=0x01"}), AuthenticationFailure},
		{"our challenge comes back", mutualTarget(), append(chapped, said{toOp, "CHAP_N=host1 CHAP_R=0x325463CE57E962DCA058154EC05E9B80 CHAP_I=1 CHAP_C=0x0102030405060708090a0b0c0d0e0f10"}), AuthenticationFailure},
		{"an identifier too large", mutualTarget(), append(chapped, said{toOp, "CHAP_N=host1 CHAP_R=0x325463CE57E962DCA058154EC05E9B80 CHAP_I=256 CHAP_C=0x01"}), AuthenticationFailure},
		{"no identifier", mutualTarget(), append(chapped, said{toOp, "CHAP_N=host1 CHAP_R=0x325463CE57E962DCA058154EC05E9B80 CHAP_C=0x01"}), AuthenticationFailure},
		{"an empty challenge", mutualTarget(), append(chapped, said{toOp, "CHAP_N=host1 CHAP_R=0x325463CE57E962DCA058154EC05E9B80 CHAP_I=1 CHAP_C=0x"}), AuthenticationFailure},
		{"a challenge too long", mutualTarget(), append(chapped, said{toOp, "CHAP_N=host1 CHAP_R=0x325463CE57E962DCA058154EC05E9B80 CHAP_I=1 CHAP_C=0x" + strings.Repeat("ab", maxBinary+1)}), AuthenticationFailure},
		{"one secret both ways", Target{CHAP: chapTarget().CHAP, Mutual: block.Credentials{User: "t", Secret: chapTarget().CHAP.Secret}},
			append(chapped, said{toOp, "CHAP_N=host1 CHAP_R=0x325463CE57E962DCA058154EC05E9B80 CHAP_I=1 CHAP_C=0x01"}), AuthenticationFailure},
	} {
		l := New(policy(tt.target), 1)
		for i, s := range tt.say {
			response, _, done, err := ask(t, l, s.flags, s.text)
			if i < len(tt.say)-1 {
				if err != nil || done != nil {
					t.Errorf("%s: request %d: got %v, %v", tt.name, i, done, err)
				}
				continue
			}
			if !refused(err, tt.want) {
				t.Errorf("%s: got %v, want status %04x", tt.name, err, tt.want)
			}
			if response[1]&^0x0c != 0 || response.StatSN() != 200+uint32(i) {
				t.Errorf("%s: got header %x", tt.name, response)
			}
			if err != nil && (strings.Contains(err.Error(), "not-so-secret") || strings.Contains(err.Error(), "host2")) {
				t.Errorf("%s: %v says too much", tt.name, err)
			}
			if _, _, _, err := ask(t, l, opToEnd, names); !refused(err, InvalidDuringLogin) {
				t.Errorf("%s: afterwards: got %v", tt.name, err)
			}
		}
	}
}

// What is wrong with a request's header.
func TestHeaders(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*pdu.Header)
		want   Status
	}{
		{"another opcode", func(h *pdu.Header) { h[0] = 0x41 }, InvalidDuringLogin},
		{"not immediate", func(h *pdu.Header) { h[0] = 0x03 }, InitiatorError},
		{"version 1 at least", func(h *pdu.Header) { h[3] = 1 }, UnsupportedVersion},
		{"another ISID", func(h *pdu.Header) { h[8]++ }, InitiatorError},
		{"another TSIH", func(h *pdu.Header) { h[15]++ }, InitiatorError},
		{"another CID", func(h *pdu.Header) { h[20]++ }, InitiatorError},
		{"more versions", func(h *pdu.Header) { h[2] = 9 }, Success},
	} {
		l := New(policy(Target{}), 1)
		if _, _, _, err := ask(t, l, inOp, names); err != nil {
			t.Fatal(err)
		}
		h := request(opToEnd, nil)
		tt.change(h)
		var response pdu.Header
		_, done, err := l.Step(h, nil, &response)
		if tt.want == Success && (err != nil || done == nil) || tt.want != Success && !refused(err, tt.want) {
			t.Errorf("%s: got %v, want status %04x", tt.name, err, tt.want)
		}
	}
}

// Texts of several requests, and answers of several responses.
func TestContinued(t *testing.T) {
	l := New(policy(Target{}), 1)
	whole := string(zeros(names + " MaxRecvDataSegmentLength=512 InitialR2T=No"))
	for i := range 60 {
		whole += "X-" + strings.Repeat("a", 1+i) + "=1\x00"
	}
	var response pdu.Header
	for len(whole) > 100 { // in the middle of keys and values
		text, done, err := l.Step(request(inOp|goesOn, []byte(whole[:100])), []byte(whole[:100]), &response)
		if len(text) > 0 || done != nil || err != nil || response[1] != inOp {
			t.Fatalf("got %q, %v, %v, flags %#x", text, done, err, response[1])
		}
		whole = whole[100:]
	}
	var answer []byte
	data := []byte(whole)
	for {
		text, done, err := l.Step(request(opToEnd, data), data, &response)
		if err != nil || len(text) > 512 {
			t.Fatalf("got %d bytes, %v", len(text), err)
		}
		answer = append(answer, text...)
		if done != nil {
			if done.InitialR2T || done.StatSN != response.StatSN()+1 {
				t.Errorf("got %+v", done)
			}
			break
		}
		if response[1] != inOp|goesOn {
			t.Fatalf("flags: got %#x", response[1])
		}
		data = nil
	}
	answers, err := parse(answer)
	if err != nil || len(answers) != 63 { // 60, the portal group, InitialR2T, MaxRecvDataSegmentLength
		t.Errorf("got %d answers, %v", len(answers), err)
	}

	// The other side has to listen to the end.
	for _, flags := range []byte{opToEnd, inOp | goesOn} {
		l = New(policy(Target{}), 1)
		long := names + " MaxRecvDataSegmentLength=512"
		for i := range 60 {
			long += " X-" + strings.Repeat("a", 1+i) + "=1"
		}
		if response, _, _, err := ask(t, l, opToEnd, long); err != nil || response[1]&goesOn == 0 {
			t.Fatalf("got flags %#x, %v", response[1], err)
		}
		text := ""
		if flags == opToEnd {
			text = "InitialR2T=No"
		}
		if _, _, _, err := ask(t, l, flags, text); !refused(err, InitiatorError) {
			t.Errorf("flags %#x: got %v", flags, err)
		}
	}

	// More text than there is room for.
	l = New(policy(Target{}), 1)
	for i := range 9 {
		data := bytes.Repeat([]byte{'a'}, MaxData)
		_, _, err := l.Step(request(inOp|goesOn, data), data, &response)
		if i < 8 && err != nil || i == 8 && !refused(err, InitiatorError) {
			t.Fatalf("request %d: got %v", i, err)
		}
	}
	// A key that does not end.
	l = New(policy(Target{}), 1)
	data = zeros(names)
	data = data[:len(data)-1]
	if _, _, err := l.Step(request(opToEnd, data), data, &response); !refused(err, InitiatorError) {
		t.Errorf("got %v", err)
	}
}

func TestRefuse(t *testing.T) {
	response, _, done, err := ask(t, New(policy(Target{}), 1), opToEnd, names)
	if done == nil || err != nil {
		t.Fatal(err)
	}
	response.SetTSIH(5)
	Refuse(&response, ServiceUnavailable)
	if response[1] != inOp || response.DataLength() != 0 || response[36] != 3 || response[37] != 1 || response.StatSN() != 200 {
		t.Errorf("got %x", response)
	}
}
