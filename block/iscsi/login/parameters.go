package login

import (
	"slices"
	"strconv"
	"strings"
)

// Parameters are the operational parameters of a session and its connection
// (section 13). Lengths are bytes, times seconds.
type Parameters struct {
	HeaderDigest, DataDigest bool // CRC32C
	// MaxRecvDataSegmentLength is what this target takes, MaxSendDataSegmentLength
	// what the initiator does: it declared that as its own MaxRecvDataSegmentLength.
	MaxRecvDataSegmentLength int
	MaxSendDataSegmentLength int
	MaxBurstLength           int
	FirstBurstLength         int // at most MaxBurstLength
	InitialR2T               bool
	ImmediateData            bool
	MaxOutstandingR2T        int
	MaxConnections           int
	ErrorRecoveryLevel       int
	DataPDUInOrder           bool
	DataSequenceInOrder      bool
	DefaultTime2Wait         int
	DefaultTime2Retain       int
	ProtocolLevel            int // iSCSIProtocolLevel
}

// Defaults are what holds where nothing is negotiated.
func Defaults() Parameters {
	return Parameters{
		MaxRecvDataSegmentLength: 8192, MaxSendDataSegmentLength: 8192,
		MaxBurstLength: 262144, FirstBurstLength: 65536, InitialR2T: true, ImmediateData: true,
		MaxOutstandingR2T: 1, MaxConnections: 1, DataPDUInOrder: true, DataSequenceInOrder: true,
		DefaultTime2Wait: 2, DefaultTime2Retain: 20, ProtocolLevel: 1,
	}
}

// Tuned are what a target offers that is to be fast: one connection a session, data
// in order, error recovery level 0, and otherwise much at once.
func Tuned() Parameters {
	return Parameters{
		HeaderDigest: true, DataDigest: true, // where the initiator prefers them
		MaxRecvDataSegmentLength: 262144, MaxBurstLength: 1 << 20, FirstBurstLength: 262144,
		ImmediateData: true, MaxOutstandingR2T: 8, MaxConnections: 1,
		DataPDUInOrder: true, DataSequenceInOrder: true, DefaultTime2Wait: 2, ProtocolLevel: 1,
	}
}

const (
	minLength = 512 // of segments and bursts (sections 13.12 to 13.14), bytes
	maxLength = 1<<24 - 1
	maxTime   = 3600 // DefaultTime2Wait and DefaultTime2Retain (sections 13.15, 13.16), seconds
)

// negotiate answers the operational keys of one text. The values agreed on go to
// agreed; ours are what we offer.
func negotiate(offers pairs, ours, agreed *Parameters, discovery bool) (answers pairs, err error) {
	// FirstBurstLength must not exceed what MaxBurstLength comes to (section 13.14).
	if burst, ok := offers.take("MaxBurstLength"); ok {
		offers = slices.Insert(offers, 0, pair{"MaxBurstLength", burst})
	}
	for _, o := range offers {
		if isAnswer(o.value) {
			continue
		}
		answer, err := negotiateKey(o.key, o.value, ours, agreed, discovery)
		if err != nil {
			return nil, err
		}
		if answer != "" {
			answers.add(o.key, answer)
		}
	}
	return answers, nil
}

// negotiateKey answers one key; "" is no answer.
func negotiateKey(key, offer string, ours, agreed *Parameters, discovery bool) (answer string, err error) {
	if discovery && irrelevantInDiscovery(key) {
		return irrelevant, nil
	}
	switch key {
	case "HeaderDigest": // section 13.1
		return digest(offer, ours.HeaderDigest, &agreed.HeaderDigest), nil
	case "DataDigest":
		return digest(offer, ours.DataDigest, &agreed.DataDigest), nil
	case "MaxRecvDataSegmentLength": // section 13.12: a declaration
		n, ok := number(offer, minLength, maxLength)
		if !ok {
			return "", refusal(InitiatorError, "MaxRecvDataSegmentLength=%.20s", offer)
		}
		agreed.MaxSendDataSegmentLength = n
		return "", nil
	case "MaxBurstLength": // section 13.13
		return lesser(offer, minLength, maxLength, ours.MaxBurstLength, &agreed.MaxBurstLength), nil
	case "FirstBurstLength": // section 13.14
		return lesser(offer, minLength, maxLength, min(ours.FirstBurstLength, agreed.MaxBurstLength), &agreed.FirstBurstLength), nil
	case "InitialR2T": // section 13.10
		return either(offer, ours.InitialR2T, &agreed.InitialR2T), nil
	case "ImmediateData": // section 13.11
		return both(offer, ours.ImmediateData, &agreed.ImmediateData), nil
	case "MaxConnections": // section 13.2
		return lesser(offer, 1, 65535, ours.MaxConnections, &agreed.MaxConnections), nil
	case "MaxOutstandingR2T": // section 13.17
		return lesser(offer, 1, 65535, ours.MaxOutstandingR2T, &agreed.MaxOutstandingR2T), nil
	case "ErrorRecoveryLevel": // section 13.20
		return lesser(offer, 0, 2, ours.ErrorRecoveryLevel, &agreed.ErrorRecoveryLevel), nil
	case "DataPDUInOrder": // section 13.18
		return either(offer, ours.DataPDUInOrder, &agreed.DataPDUInOrder), nil
	case "DataSequenceInOrder": // section 13.19
		return either(offer, ours.DataSequenceInOrder, &agreed.DataSequenceInOrder), nil
	case "DefaultTime2Wait": // section 13.15
		n, ok := number(offer, 0, maxTime)
		if !ok {
			return reject, nil
		}
		agreed.DefaultTime2Wait = max(n, ours.DefaultTime2Wait)
		return strconv.Itoa(agreed.DefaultTime2Wait), nil
	case "DefaultTime2Retain": // section 13.16
		return lesser(offer, 0, maxTime, ours.DefaultTime2Retain, &agreed.DefaultTime2Retain), nil
	case "TaskReporting": // section 13.23
		if slices.Contains(strings.Split(offer, ","), "RFC3720") {
			return "RFC3720", nil
		}
		return reject, nil
	case "iSCSIProtocolLevel": // section 13.24
		return lesser(offer, 0, 31, ours.ProtocolLevel, &agreed.ProtocolLevel), nil
	case "IFMarker", "OFMarker": // obsolete; section 13.25
		return "No", nil
	case "IFMarkInt", "OFMarkInt":
		return reject, nil
	case "SendTargets": // only in the full feature phase (appendix C)
		return reject, nil
	}
	if isKnown(key) {
		return "", refusal(InitiatorError, "%s out of place in the operational stage", key)
	}
	return notUnderstood, nil
}

// irrelevantInDiscovery are the keys of sections 13.2 to 13.24 that are so with
// SessionType=Discovery.
func irrelevantInDiscovery(key string) bool {
	switch key {
	case "MaxConnections", "InitialR2T", "ImmediateData", "MaxBurstLength", "FirstBurstLength", "MaxOutstandingR2T",
		"DataPDUInOrder", "DataSequenceInOrder", "TaskReporting", "iSCSIProtocolLevel":
		return true
	}
	return false
}

// digest takes the first of a list that we have (section 6.2.1).
func digest(offer string, have bool, agreed *bool) (answer string) {
	for o := range strings.SplitSeq(offer, ",") {
		if o == "None" || o == "CRC32C" && have {
			*agreed = o == "CRC32C"
			return o
		}
	}
	return reject
}

// lesser is the result function minimum (section 6.2.2).
func lesser(offer string, least, most, ours int, agreed *int) (answer string) {
	n, ok := number(offer, least, most)
	if !ok {
		return reject
	}
	*agreed = min(n, ours)
	return strconv.Itoa(*agreed)
}

// either is the result function OR, both is AND.
func either(offer string, ours bool, agreed *bool) (answer string) {
	return boolean(offer, offer == "Yes" || ours, agreed)
}

func both(offer string, ours bool, agreed *bool) (answer string) {
	return boolean(offer, offer == "Yes" && ours, agreed)
}

func boolean(offer string, result bool, agreed *bool) (answer string) {
	if offer != "Yes" && offer != "No" {
		return reject
	}
	*agreed = result
	return yes(result)
}

func yes(b bool) string {
	if b {
		return "Yes"
	}
	return "No"
}

// value is what a key stands at, as the target would say it.
func (p *Parameters) value(key string) (value string, known bool) {
	crc := func(b bool) (string, bool) {
		if b {
			return "CRC32C", true
		}
		return "None", true
	}
	switch key {
	case "HeaderDigest":
		return crc(p.HeaderDigest)
	case "DataDigest":
		return crc(p.DataDigest)
	case "MaxRecvDataSegmentLength":
		return strconv.Itoa(p.MaxRecvDataSegmentLength), true
	case "MaxBurstLength":
		return strconv.Itoa(p.MaxBurstLength), true
	case "FirstBurstLength":
		return strconv.Itoa(p.FirstBurstLength), true
	case "InitialR2T":
		return yes(p.InitialR2T), true
	case "ImmediateData":
		return yes(p.ImmediateData), true
	case "MaxConnections":
		return strconv.Itoa(p.MaxConnections), true
	case "MaxOutstandingR2T":
		return strconv.Itoa(p.MaxOutstandingR2T), true
	case "ErrorRecoveryLevel":
		return strconv.Itoa(p.ErrorRecoveryLevel), true
	case "DataPDUInOrder":
		return yes(p.DataPDUInOrder), true
	case "DataSequenceInOrder":
		return yes(p.DataSequenceInOrder), true
	case "DefaultTime2Wait":
		return strconv.Itoa(p.DefaultTime2Wait), true
	case "DefaultTime2Retain":
		return strconv.Itoa(p.DefaultTime2Retain), true
	case "TaskReporting":
		return "RFC3720", true
	case "iSCSIProtocolLevel":
		return strconv.Itoa(p.ProtocolLevel), true
	}
	return "", false
}

// isKnown reports whether key is one of the standard's.
func isKnown(key string) bool {
	switch key {
	case "AuthMethod", "CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R", "InitiatorName", "InitiatorAlias", "TargetName",
		"TargetAlias", "TargetAddress", "TargetPortalGroupTag", "SessionType", "SendTargets",
		"IFMarker", "OFMarker", "IFMarkInt", "OFMarkInt":
		return true
	}
	_, parameter := new(Parameters).value(key)
	return parameter
}
