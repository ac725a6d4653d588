package auth

// Credentials are a new user's, in clear; nobody can read them again.
type Credentials struct {
	User       string
	Password   string
	IPMISecret string
}

// FirstUser is the name of the administrator that FirstStart makes.
const FirstUser = "admin"

// The alphabets of made-up credentials leave out what looks alike on a screen
// or a label.
const (
	plainAlphabet = "abcdefghjkmnpqrstuvwxyz23456789"                           // 4.95 bits each
	mixedAlphabet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789" // 5.83 bits each
)

// RandomCredentials are what FirstStart makes up: for a caller that has to
// write them down before they count.
func RandomCredentials() Credentials {
	return Credentials{
		User:       FirstUser,
		Password:   randomText(plainAlphabet, 7) + "-" + randomText(plainAlphabet, 7) + "-" + randomText(plainAlphabet, 7),
		IPMISecret: randomText(mixedAlphabet, MaxIPMISecret),
	}
}

// HasAdministrator says whether there is an enabled administrator.
func (a *Auth) HasAdministrator() bool { return administrators(*a.users.Load()) > 0 }

// FirstStart makes the user admin, an Administrator, if there is no enabled
// administrator (so on the first start, and when the record of the only one is
// damaged), with the given password and IPMI secret or, where they are empty,
// random ones: 104 bits in three groups that are easy to type, and 20
// characters, 116 bits. It answers true and the credentials if it made the
// user. It fails with ErrExists if the name belongs to one who is not an enabled
// administrator.
func (a *Auth) FirstStart(password, ipmiSecret string) (Credentials, bool, error) {
	if a.HasAdministrator() {
		return Credentials{}, false, nil
	}
	random := RandomCredentials()
	if password == "" {
		password = random.Password
	}
	if ipmiSecret == "" {
		ipmiSecret = random.IPMISecret
	}
	if err := checkIPMISecret(ipmiSecret, a.least(MinIPMISecret)); err != nil {
		return Credentials{}, false, err
	}
	r, err := a.newRecord(User{Name: FirstUser, Role: Administrator, Enabled: true}, password, Attempt{})
	if err != nil {
		return Credentials{}, false, err
	}
	// Both in one record: a power cut leaves no administrator half made.
	if err := r.seal(a.sealKey, ipmiSecret); err != nil {
		return Credentials{}, false, err
	}
	if err := a.add(r, Attempt{}); err != nil {
		return Credentials{}, false, err
	}
	return Credentials{User: FirstUser, Password: password, IPMISecret: ipmiSecret}, true, nil
}
