package system

// A SerialConsole says how the serial console of the host is reached.
type SerialConsole struct {
	// MaxSessions is how many may use it at the same time.
	MaxSessions int
	// SSH and IPMI are nil where the board has no such service.
	SSH, IPMI *ConsoleService
}

// A ConsoleService is one way to the serial console.
type ConsoleService struct {
	Enabled bool
	Port    int // UDP of IPMI, else TCP
	// Shared: behind the port is the manager's command line, and Command on it
	// leads to the console.
	Shared  bool
	Command string
	// HotKeys says in words which keys leave the console; "" is nothing.
	HotKeys string
}

// A GraphicalConsole says how the screen of the host is reached.
type GraphicalConsole struct {
	Enabled     bool
	Port        int
	MaxSessions int
	// Types are of ComputerSystem's GraphicalConnectTypesSupported: "KVMIP".
	Types []string
}

type serialConsole struct {
	MaxConcurrentSessions int              `json:"MaxConcurrentSessions"`
	SSH                   *consoleProtocol `json:"SSH,omitempty"`
	IPMI                  *consoleProtocol `json:"IPMI,omitempty"`
}

type consoleProtocol struct {
	ServiceEnabled        bool   `json:"ServiceEnabled"`
	Port                  int    `json:"Port"`
	SharedWithManagerCLI  *bool  `json:"SharedWithManagerCLI,omitempty"`
	ConsoleEntryCommand   string `json:"ConsoleEntryCommand,omitempty"`
	HotKeySequenceDisplay string `json:"HotKeySequenceDisplay,omitempty"`
}

type graphicalConsole struct {
	ServiceEnabled        bool     `json:"ServiceEnabled"`
	Port                  int      `json:"Port"`
	MaxConcurrentSessions int      `json:"MaxConcurrentSessions"`
	ConnectTypesSupported []string `json:"ConnectTypesSupported"`
}

func newSerialConsole(c SerialConsole) *serialConsole {
	protocol := func(s *ConsoleService) *consoleProtocol {
		if s == nil {
			return nil
		}
		p := &consoleProtocol{ServiceEnabled: s.Enabled, Port: s.Port, ConsoleEntryCommand: s.Command, HotKeySequenceDisplay: s.HotKeys}
		if s.Shared {
			p.SharedWithManagerCLI = new(true)
		}
		return p
	}
	return &serialConsole{c.MaxSessions, protocol(c.SSH), protocol(c.IPMI)}
}

func newGraphicalConsole(c GraphicalConsole) *graphicalConsole {
	return &graphicalConsole{c.Enabled, c.Port, c.MaxSessions, c.Types}
}
