package login

import (
	"strings"
	"testing"
)

func listed(name string) []Listed {
	all := []Listed{
		{tgt, []Portal{{"192.0.2.1:3260", 1}, {"[2001:db8::1]:3260", 2}}},
		{tgt + "2", []Portal{{"192.0.2.1:3260", 1}}},
	}
	switch name {
	case "":
		return all
	case tgt:
		return all[:1]
	}
	return nil
}

func TestTextResponse(t *testing.T) {
	const one = "TargetName=" + tgt + " TargetAddress=192.0.2.1:3260,1 TargetAddress=[2001:db8::1]:3260,2"
	for _, tt := range []struct {
		discovery  bool
		text, want string
		refused    bool
	}{
		{true, "SendTargets=All", one + " TargetName=" + tgt + "2 TargetAddress=192.0.2.1:3260,1", false},
		{true, "SendTargets=" + strings.ToUpper(tgt), one, false},
		{true, "SendTargets=" + tgt + "3", "", false},
		{true, "SendTargets=", "SendTargets=Reject", false},
		{true, "SendTargets=all", "SendTargets=Reject", false},
		{false, "SendTargets=", one, false},
		{false, "SendTargets=" + tgt, one, false},
		{false, "SendTargets=All", "SendTargets=Reject", false},
		{false, "SendTargets=" + tgt + "2", "SendTargets=Reject", false},
		{false, "", "", false},
		{false, "HeaderDigest=? MaxBurstLength=? MaxRecvDataSegmentLength=? InitialR2T=?", "HeaderDigest=None MaxBurstLength=1048576 MaxRecvDataSegmentLength=262144 InitialR2T=No", false},
		{false, "DataDigest=? ImmediateData=? MaxConnections=? MaxOutstandingR2T=? ErrorRecoveryLevel=? DataPDUInOrder=? DataSequenceInOrder=?",
			"DataDigest=CRC32C ImmediateData=Yes MaxConnections=1 MaxOutstandingR2T=8 ErrorRecoveryLevel=0 DataPDUInOrder=Yes DataSequenceInOrder=Yes", false},
		{false, "FirstBurstLength=? DefaultTime2Wait=? DefaultTime2Retain=? TaskReporting=? iSCSIProtocolLevel=?",
			"FirstBurstLength=262144 DefaultTime2Wait=2 DefaultTime2Retain=0 TaskReporting=RFC3720 iSCSIProtocolLevel=1", false},
		{false, "X-a=?", "X-a=NotUnderstood", false},
		{false, "X-a=1 Other=2", "X-a=NotUnderstood Other=NotUnderstood", false},
		{false, "X-a=NotUnderstood", "", false},
		{false, "MaxBurstLength=1024 AuthMethod=None TargetName=" + tgt, "MaxBurstLength=Reject AuthMethod=Reject TargetName=Reject", false},
		{false, "MaxRecvDataSegmentLength=65536 InitiatorAlias=me", "", false},
		{false, "MaxRecvDataSegmentLength=1", "", true},
		{false, "X-a=1 X-a=1", "", true},
		{false, "X-a", "", true},
	} {
		session := Result{Initiator: host, Discovery: tt.discovery, Parameters: Tuned()}
		session.HeaderDigest = false
		if !tt.discovery {
			session.Target = tgt
		}
		got, err := TextResponse(zeros(tt.text), &session, listed)
		if (err != nil) != tt.refused || spaces(got) != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.text, spaces(got), err, tt.want)
		}
		if strings.Contains(tt.text, "=65536") && (session.MaxSendDataSegmentLength != 65536 || session.InitiatorAlias != "me") {
			t.Errorf("%s: got %+v", tt.text, session)
		}
	}
	if _, err := TextResponse(make([]byte, maxText+1), &Result{}, listed); !refused(err, InitiatorError) {
		t.Errorf("a long text: got %v", err)
	}
}

func FuzzTextResponse(f *testing.F) {
	f.Add(zeros("SendTargets=All"), true)
	f.Add(zeros("SendTargets= X-a=1 MaxRecvDataSegmentLength=0x400 HeaderDigest=?"), false)
	f.Fuzz(func(t *testing.T, text []byte, discovery bool) {
		session := Result{Initiator: host, Discovery: discovery, Parameters: Tuned()}
		if !discovery {
			session.Target = "iqn.2026-01.lab:another"
		}
		got, err := TextResponse(text, &session, listed)
		if err != nil {
			if !refused(err, InitiatorError) {
				t.Fatalf("got %v", err)
			}
			return
		}
		if _, err := parse(got); err != nil {
			t.Fatalf("%q: got %q: %v", text, got, err)
		}
		if !discovery && strings.Contains(string(got), "TargetName="+tgt) {
			t.Fatalf("%q: got %q: another session's target", text, got)
		}
	})
}

// Whatever can be parsed is the same after it was written and parsed again.
func FuzzParse(f *testing.F) {
	f.Add(zeros(names + " MaxBurstLength=0x400 X-a= b==c"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parse(text)
		if err != nil {
			return
		}
		again, err := parse(p.appendTo(nil))
		if err != nil || len(again) != len(p) {
			t.Fatalf("got %q, %v; want %q", again, err, p)
		}
		for i := range p {
			if p[i] != again[i] {
				t.Fatalf("got %q, want %q", again[i], p[i])
			}
			number(p[i].value, 0, 100)
			if b, ok := octets(p[i].value, 8); ok && (len(b) == 0 || len(b) > 8) {
				t.Fatalf("%q: got %x", p[i].value, b)
			}
		}
	})
}
