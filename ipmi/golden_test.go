package ipmi

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"
)

// The vectors are logins of ipmitool 1.8.19 as seen on the wire: the codes of
// RAKP 3 and of the request are its own work, those of RAKP 2 and 4 it checked.
// User admin, key "secret-20-characters".
var golden = []struct {
	name                       string
	suite                      *suite
	rakp1, rakp2, rakp3, rakp4 string
	request                    string // the session's first packet
}{
	{
		name: "suite 17", suite: suites(true)[0],
		rakp1:   "00000000" + "3a0d1572" + "5b62bc139277a7bbe8f900138a2fa9f4" + "1400000561646d696e",
		rakp2:   "00000000" + "a4a3a2a0" + "5bfd203c753bcb4e45130185bafd2100" + "400a5e8c5f5d01ad244c84c6df0239d6" + "0325e3bc9b4194be25016005426f6a2f3baa6536a8a83041e1f7a3f9888426d9",
		rakp3:   "00000000" + "3a0d1572" + "0f443c2f41108511666431778f949c3c2a19c41f4b19cccd6149db2a24f37b08",
		rakp4:   "00000000" + "a4a3a2a0" + "8c0eb4d09f7fbc5e3bf8433440e2336b",
		request: "0600ff0706c03a0d1572030000002000c3673b65d397aefbdb587a27af2bd52261a9c5406dcafb9d9e58bbbe1729392effff02071f7c9669cdfb3d391415f6846ba0219c",
	},
	{
		name: "suite 3", suite: suites(true)[1],
		rakp1:   "00000000" + "fb3dd627" + "13737226969e491c488fdae07c3d0d97" + "1400000561646d696e",
		rakp2:   "00000000" + "a4a3a2a0" + "110d8f37dab48011c7c74cabb86c7bef" + "400a5e8c5f5d01ad244c84c6df0239d6" + "b0a602e9815111bb00a16e4580e0614c31070147",
		rakp3:   "00000000" + "fb3dd627" + "4f4d6f2fdc7b1107dfd5293b671fae4c2cb4414c",
		rakp4:   "00000000" + "a4a3a2a0" + "ecb8340a28ee82d1c2ea968c",
		request: "0600ff0706c0fb3dd627030000002000cc9c03e5d763f7ae7dbb3814659490b9ef7f23cbba94d3315f49d45bbd43674effff02074ca6324a2465825fc28dde70",
	},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden(t *testing.T) {
	key := []byte("secret-20-characters")
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			one, status, ok := parseRAKP1(unhex(t, g.rakp1))
			if !ok || status != statusOK || string(one.username) != "admin" || one.role != 0x14 {
				t.Fatalf("parseRAKP1 = %+v, %02Xh, %v", one, status, ok)
			}
			two, four := unhex(t, g.rakp2), unhex(t, g.rakp4)
			x := exchange{
				consoleID: binary.LittleEndian.Uint32(two[4:]), id: one.id, consoleRandom: one.random,
				random: [16]byte(two[8:]), guid: [16]byte(two[24:]), role: one.role, username: string(one.username),
			}
			if got, want := x.code2(g.suite, key), two[40:]; !slices.Equal(got, want) {
				t.Errorf("code2 = %x, want %x", got, want)
			}
			three, ok := parseRAKP3(unhex(t, g.rakp3))
			if !ok || three.id != one.id || three.status != 0 {
				t.Fatalf("parseRAKP3 = %+v, %v", three, ok)
			}
			if got, want := x.code3(g.suite, key), three.code; !slices.Equal(got, want) {
				t.Errorf("code3 = %x, want %x", got, want)
			}
			sik := x.sessionKey(g.suite, key)
			if got, want := x.code4(g.suite, sik), four[8:]; !slices.Equal(got, want) {
				t.Errorf("code4 = %x, want %x", got, want)
			}
			z, err := newSealer(g.suite, sik)
			if err != nil {
				t.Fatal(err)
			}
			packet := unhex(t, g.request)[rmcpHeaderLen:]
			h, ok := parseSession(packet)
			if !ok || !h.encrypted || !h.authenticated || h.id != one.id || h.seq != 3 {
				t.Fatalf("parseSession = %+v, %v", h, ok)
			}
			if !z.verify(packet, sessionHeaderLen+len(h.body)) {
				t.Fatal("K1: the packet does not verify")
			}
			text, ok := z.decrypt(h.body)
			// Set Session Privilege Level to ADMINISTRATOR.
			if want := unhex(t, "2018c881043b043c"); !ok || !slices.Equal(text, want) {
				t.Fatalf("K2: decrypt = %x, %v, want %x", text, ok, want)
			}
		})
	}
}

func TestPresencePing(t *testing.T) {
	c := newBMC(t).console(t, "192.0.2.1:1000")
	got := c.send(unhex(t, "0600ff06"+"000011be"+"80"+"2a"+"0000"))
	want := unhex(t, "0600ff06"+"000011be"+"40"+"2a"+"0010"+"000011be"+"00000000"+"81"+"00"+"000000000000")
	if !slices.Equal(got, want) {
		t.Errorf("pong = %x, want %x", got, want)
	}
	// A sequence that is not FFh wants an RMCP ACK besides.
	c.send(unhex(t, "06000506"+"000011be"+"80"+"2a"+"0000"))
	if got, want := c.wait(), unhex(t, "06000586"); !slices.Equal(got, want) {
		t.Errorf("ACK = %x, want %x", got, want)
	}
}

// TestAuthCapabilities has the bytes of ipmitool's and FreeIPMI's first packet.
func TestAuthCapabilities(t *testing.T) {
	c := newBMC(t).console(t, "192.0.2.1:1000")
	for _, test := range []struct{ name, send, want string }{
		{"v1.5 framing", "0600ff0700000000000000000009" + "2018c88100388e04b5", "0600ff0700000000000000000010" + "811c6320003800018004020000000021"},
		{"RMCP+ framing", "0600ff07060000000000000000000900" + "2018c88100388e04b5", "0600ff07060000000000000000001000" + "811c6320003800018004020000000021"},
		{"only v1.5 data asked", "0600ff0700000000000000000009" + "2018c88100380e0435", "0600ff0700000000000000000010" + "811c63200038000100040000000000a3"},
		{"no such channel", "0600ff0700000000000000000009" + "2018c88100388704bc", "0600ff0700000000000000000008" + "811c63200038ccdc"},
		{"wrong checksum", "0600ff0700000000000000000009" + "2018c88100388e04b6", ""},
		{"not the BMC", "0600ff0700000000000000000009" + "2218c68100388e04b5", ""},
		{"Get Session Challenge", "0600ff070000000000000000000a" + "2018c881003902000044", "0600ff0700000000000000000008" + "811c63200039c1e6"},
		{"Get Device ID outside a session", "0600ff0700000000000000000007" + "2018c88100017e", "0600ff0700000000000000000008" + "811c63200001d40b"},
	} {
		if got := hex.EncodeToString(c.send(unhex(t, test.send))); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}
