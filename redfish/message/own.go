package message

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nitrino/nitrino/host"
)

// OwnRegistry begins the MessageId of each message of the event log: this
// service's own registry, whose keys are the kinds of events.
const OwnRegistry = "Nitrino.1.0."

// OwnRegistryVersion is the version of the whole registry.
const OwnRegistryVersion = "1.0.0"

// Of is an event of the log as a message of this service's own registry.
func Of(e host.Event) Message {
	resolution := none
	for k := range kinds {
		if k.name == e.Kind {
			resolution = k.resolution
			break
		}
	}
	return New(OwnRegistry+Key(e.Kind), string(e.Severity), "%1", resolution, e.Message)
}

// Key is the registry's key of a kind: "power.on" is "PowerOn".
func Key(kind string) string {
	var b strings.Builder
	for word := range strings.FieldsFuncSeq(kind, func(r rune) bool { return r == '.' || r == '-' || r == '_' }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// A registry is schema MessageRegistry.
type registry struct {
	Type           string                   `json:"@odata.type"`
	ID             string                   `json:"Id"`
	Name           string                   `json:"Name"`
	Language       string                   `json:"Language"`
	Description    string                   `json:"Description"`
	RegistryPrefix string                   `json:"RegistryPrefix"`
	Version        string                   `json:"RegistryVersion"`
	OwningEntity   string                   `json:"OwningEntity"`
	Messages       map[string]registryEntry `json:"Messages"`
}

type registryEntry struct {
	Description string `json:"Description"`
	Message     string `json:"Message"`
	// Severity is deprecated, and required all the same.
	Severity        string   `json:"Severity"`
	MessageSeverity string   `json:"MessageSeverity"`
	NumberOfArgs    int      `json:"NumberOfArgs"`
	ParamTypes      []string `json:"ParamTypes"`
	ArgDescriptions []string `json:"ArgDescriptions"`
	Resolution      string   `json:"Resolution"`
}

// OwnRegistryDocument is the registry as JSON (schema MessageRegistry). A
// severity is the worst that the kind of event has; the event tells its own.
func OwnRegistryDocument() ([]byte, error) {
	r := registry{
		Type: "#MessageRegistry.v1_6_3.MessageRegistry", ID: "Nitrino." + OwnRegistryVersion, Name: "nitrino Message Registry",
		Language: "en", Description: "The kinds of events that nitrino logs.",
		RegistryPrefix: "Nitrino", Version: OwnRegistryVersion, OwningEntity: "nitrino",
		Messages: map[string]registryEntry{},
	}
	for k := range kinds {
		r.Messages[Key(k.name)] = registryEntry{
			Description: k.description, Message: "%1", Severity: string(k.severity), MessageSeverity: string(k.severity),
			NumberOfArgs: 1, ParamTypes: []string{"string"}, ArgDescriptions: []string{"What happened, as one sentence."},
			Resolution: k.resolution,
		}
	}
	doc, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding the registry Nitrino: %w", err)
	}
	return doc, nil
}

// none is the Resolution where nothing is to be done, as in DMTF's registries.
const none = "None."

// A kind is one of host.Event.
type kind struct {
	name        string
	severity    host.Severity
	description string
	resolution  string
}

// kinds yields all kinds of events, in the order of their names.
func kinds(yield func(kind) bool) {
	for _, k := range [...]kind{
		{"auth.change-refused", host.Warning, "A change of a user was refused.", "Send the change again with a value that the message allows."},
		{"auth.failed", host.Warning, "A login failed.", "Check who tried, if it was none of the users."},
		{"auth.flood", host.Warning, "Logins failed so often that not all are listed.", "Find out who tries, and keep the source away from the management network."},
		{"auth.ipmi-access-changed", host.OK, "What a user may do over IPMI was changed.", none},
		{"auth.ipmi-secret-changed", host.OK, "The IPMI secret of a user was set.", none},
		{"auth.ipmi-secret-lost", host.Warning, "The IPMI secret of a user cannot be read.", "Set the IPMI secret of the user again."},
		{"auth.ipmi-secret-removed", host.OK, "The IPMI secret of a user was removed.", none},
		{"auth.keys-changed", host.OK, "The SSH keys of a user were changed.", none},
		{"auth.locked", host.Warning, "A user or a network was locked after too many failed logins.", "Wait until the lock ends. Check who tried, if it was none of the users."},
		{"auth.login", host.OK, "A user logged in.", none},
		{"auth.password-change-required", host.OK, "A user has to change the password before anything else.", "Log in as that user and set a new password."},
		{"auth.password-change-waived", host.OK, "A user need not change the password any more.", none},
		{"auth.password-changed", host.OK, "The password of a user was changed.", none},
		{"auth.privilege", host.OK, "An IPMI session was raised to another privilege level.", none},
		{"auth.role-changed", host.OK, "The role of a user was changed.", none},
		{"auth.unlocked", host.OK, "A lock after failed logins ended.", none},
		{"auth.user-created", host.OK, "A user was created.", none},
		{"auth.user-damaged", host.Critical, "The record of a user cannot be read.", "Create the user again."},
		{"auth.user-deleted", host.OK, "A user was deleted.", none},
		{"auth.user-disabled", host.OK, "A user was disabled.", none},
		{"auth.user-enabled", host.OK, "A user was enabled.", none},
		{"auth.user-renamed", host.OK, "A user got another name.", none},
		{"bmc.defaults", host.Warning, "The settings were reset to their defaults.", none},
		{"bmc.reset", host.OK, "The management software was reset.", none},
		{"bmc.started", host.OK, "The management software started.", none},
		{"board.restart", host.OK, "The board that runs the management software restarts.", none},
		{"board.unknown", host.Warning, "The board is not known, or has no wires that can be used.", "Use a supported board, and name its wires in the settings."},
		{"boot.override", host.OK, "The boot override was set, used or cleared.", none},
		{"boot.record", host.Warning, "The saved boot override cannot be read.", "Set the boot override again."},
		{"card.damaged", host.Warning, "Files on the card's boot partition are damaged.", "Write the card anew."},
		{"certificate.replaced", host.OK, "The certificate of HTTPS was replaced.", none},
		{"certificate.requested", host.OK, "A certificate signing request was made.", "Have it signed, and put the certificate in."},
		{"clock.set", host.OK, "The clock was set.", none},
		{"clock.stepped", host.Warning, "The clock was wrong, and was set by a time server.", none},
		{"clock.synchronized", host.OK, "The clock is kept by a time server.", none},
		{"clock.unsynchronized", host.Warning, "No time server keeps the clock.", "Check the addresses of the time servers and the network."},
		{"disk.down", host.Critical, "The process that serves disks does not run.", "It is started again by itself. If this comes back, reset the BMC and report the fault."},
		{"disk.unrestricted", host.Warning, "The process that serves disks is not confined to the volumes.", "Use a kernel with Landlock."},
		{"disk.up", host.OK, "The process that serves disks runs.", none},
		{"events.damaged", host.Warning, "Kept events cannot be read.", none},
		{"events.lost", host.Warning, "Events found no place and were lost.", none},
		{"gpio.missing", host.Warning, "A GPIO chip that the settings name is not there.", "Check the wires in the settings, and the device tree."},
		{"identify", host.OK, "The identification light was switched.", none},
		{"inventory.changed", host.OK, "The inventory record of the host was changed.", none},
		{"ipmi.alert-destinations", host.OK, "The destinations of IPMI alerts were changed.", none},
		{"ipmi.sol-changed", host.OK, "The settings of IPMI's serial over LAN were changed.", none},
		{"ipmi.system-info", host.OK, "The system information that IPMI keeps was changed.", none},
		{"iscsi.dropped", host.Warning, "The connection of an initiator ended without a logout.", "Check the network and the host."},
		{"iscsi.failed", host.Critical, "Disks cannot be served by iSCSI.", "Check what the settings say of iSCSI."},
		{"iscsi.login", host.OK, "An initiator logged in to an iSCSI target.", none},
		{"iscsi.logout", host.OK, "An initiator left an iSCSI target.", none},
		{"iscsi.open", host.Warning, "An iSCSI target is open to anybody who reaches the port.", "Set the initiators that may log in, and a secret for them (chap)."},
		{"iscsi.panic", host.Critical, "A connection of iSCSI ended by a fault of the software.", "Report the fault."},
		{"iscsi.refused", host.Warning, "A login to an iSCSI target was refused.", "Check the name and the secret of the initiator, or who tried."},
		{"iscsi.restored", host.OK, "Disks are served by iSCSI again.", none},
		{"iscsi.target-changed", host.OK, "An iSCSI target was made, changed or deleted.", none},
		{"key.damaged", host.Critical, "A key of the board cannot be read and was made anew.", "Trust the new key in your clients, and set the IPMI secrets again if they are lost."},
		{"login.created", host.OK, "The first login was made.", "Log in, and change the password."},
		{"login.failed", host.Critical, "The first login cannot be written to the card or read from it.", "Check the card."},
		{"login.restored", host.Warning, "The first login counts again, as there was no administrator.", "Log in, and create an administrator."},
		{"media.ejected", host.OK, "A medium was taken out of a virtual drive.", none},
		{"media.failed", host.Warning, "A medium of a virtual drive cannot be read.", "Check the address of the image, and the network; then insert it again."},
		{"media.inserted", host.OK, "A medium was put into a virtual drive.", none},
		{"media.removed", host.OK, "An uploaded image was deleted.", none},
		{"media.uploaded", host.OK, "An image was uploaded.", none},
		{"network.conflict", host.Warning, "Another machine has the board's address.", "Give one of the two another address."},
		{"network.down", host.Warning, "The network has no link.", "Check the cable."},
		{"network.failed", host.Warning, "The network cannot be set up as the settings say.", "Check the network settings."},
		{"network.kept", host.Warning, "Changed network settings stay in force.", none},
		{"network.no-address", host.Warning, "The board got no address.", "Check the DHCP server, or set an address."},
		{"network.rolled-back", host.Warning, "Changed network settings were taken back, as nobody logged in over them.", "Check the network settings, set them again, and log in within the time."},
		{"network.trial", host.OK, "Changed network settings are on trial.", "Log in over the changed network to keep them."},
		{"network.up", host.OK, "The network works.", none},
		{"panel.power-button", host.OK, "The power button of the front panel was pressed.", none},
		{"panel.reset-button", host.OK, "The reset button of the front panel was pressed.", none},
		{"pef.action", host.OK, "An event caused an action by IPMI's event filters.", none},
		{"pef.alert", host.Warning, "An alert by IPMI's event filters was sent, or could not be.", "If it could not be sent, check the destination and the network."},
		{"pef.changed", host.OK, "IPMI's event filters were changed.", none},
		{"perm.damaged", host.Critical, "The card's partition for settings is damaged.", "Save what you need, and write the card anew."},
		{"perm.failed", host.Critical, "The card's partition for settings cannot be used.", "Replace the card."},
		{"perm.full", host.Warning, "The card is nearly full.", "Delete what is not needed."},
		{"perm.grown", host.OK, "The card's partition for settings was grown to the card's end.", none},
		{"perm.missing", host.Critical, "The card's partition for settings is missing.", "Put the card in, or write it anew."},
		{"perm.not-grown", host.Warning, "The card's partition for settings cannot be grown.", "Write the card anew."},
		{"perm.restored", host.OK, "The card's partition for settings can be used again.", none},
		{"perm.space", host.OK, "The card has room again.", none},
		{"power.ac-lost", host.Critical, "The host lost its AC power.", "Check the host's power cord and supply."},
		{"power.ac-restored", host.OK, "The host's AC power is back.", none},
		{"power.asleep", host.OK, "The host sleeps.", none},
		{"power.awake", host.OK, "The host woke up.", none},
		{"power.failed", host.Warning, "A power action failed.", "Check the wires to the host's power header, and try again."},
		{"power.limit", host.Critical, "The host draws more than its power limit.", "Lower the load, or raise the limit."},
		{"power.limit-changed", host.OK, "The host's power limit was changed.", none},
		{"power.limit-cleared", host.OK, "The host draws less than its power limit again.", none},
		{"power.limit-failed", host.Critical, "The host draws too much and could not be switched off.", "Switch the host off by hand."},
		{"power.limit-record", host.Warning, "The saved power limit cannot be read.", "Set the power limit again."},
		{"power.lost", host.Warning, "The host went off and nobody asked for it.", "Check the host and its power supply."},
		{"power.nmi", host.OK, "A non-maskable interrupt was sent to the host.", none},
		{"power.off", host.OK, "The host is off.", none},
		{"power.on", host.OK, "The host is on.", none},
		{"power.record", host.Warning, "The saved power state cannot be read or written.", "Check the card."},
		{"power.request", host.OK, "A power action was requested.", none},
		{"power.restarted", host.OK, "The host was restarted.", none},
		{"process.exited", host.Warning, "A process of the management software ended.", "It is started again by itself."},
		{"process.failed", host.Critical, "A process of the management software fails again and again.", "Reset the BMC, or go back to the older software, and report the fault."},
		{"process.restarted", host.Warning, "A process of the management software was started again.", none},
		{"sel.added", host.OK, "A record was added to the IPMI event log.", none},
		{"sel.cleared", host.OK, "The IPMI event log was cleared.", none},
		{"sel.deleted", host.OK, "A record of the IPMI event log was deleted.", none},
		{"sel.event", host.OK, "The host sent an event over IPMI.", none},
		{"sel.logging-off", host.Warning, "The IPMI event log takes no more events.", "Switch IPMI's event logging on."},
		{"sel.logging-on", host.OK, "The IPMI event log takes events again.", none},
		{"sel.time-set", host.OK, "The clock of the IPMI event log was set.", none},
		{"sensor.events-changed", host.OK, "Which events a sensor makes was changed.", none},
		{"sensor.failed", host.Warning, "A sensor cannot be read.", "Check the sensor and its wires."},
		{"sensor.limit", host.Critical, "A reading went beyond a limit of its sensor, or came back.", "Bring the reading back within its limits."},
		{"sensor.limits-changed", host.OK, "The limits of a sensor were changed.", none},
		{"sensor.record", host.Warning, "The saved limits of a sensor are not used.", "Set the limits of the sensor again."},
		{"sensor.restored", host.OK, "A sensor can be read again.", none},
		{"service.failing", host.Warning, "A service of the management software failed.", "It is started again by itself. If this comes back, check its settings."},
		{"service.running", host.OK, "A service of the management software runs again.", none},
		{"service.stuck", host.Warning, "A service of the management software does not end.", "Reset the BMC."},
		{"settings.bad", host.Critical, "The settings cannot be read; the last good ones are used.", "Correct the settings file."},
		{"settings.changed", host.OK, "The settings were changed.", none},
		{"settings.not-applied", host.Warning, "Changed settings cannot be put in force.", "Correct the settings."},
		{"settings.pending", host.OK, "Changed settings take effect later.", "Reset the BMC to put them in force."},
		{"slot.fallback", host.Warning, "The card started the older software.", "Check why the newer one did not start, and update again."},
		{"slot.refused", host.Critical, "New software failed on trial; the board goes back to the older one.", "Report the fault, or update to another version."},
		{"slot.trial", host.OK, "New software is on trial.", none},
		{"slot.unknown", host.Warning, "Which software the card starts cannot be told.", "Check the card."},
		{"state.damaged", host.Critical, "The saved state was damaged and begun anew.", "Create users again, and check the settings."},
		{"subscription.created", host.OK, "An event subscription was created.", none},
		{"subscription.failed", host.Warning, "A destination of events does not take them.", "Check the destination and the network; resume the subscription if it is suspended."},
		{"subscription.removed", host.OK, "An event subscription was removed.", none},
		{"subscription.resumed", host.OK, "An event subscription was resumed, or its destination takes events again.", none},
		{"subscription.suspended", host.OK, "An event subscription was suspended.", none},
		{"thermal.limit", host.Warning, "A temperature is beyond its thermal limit.", "Check fans and cooling."},
		{"thermal.limit-changed", host.OK, "A thermal limit was changed.", none},
		{"thermal.limit-cleared", host.OK, "A temperature is within its thermal limit again.", none},
		{"thermal.limit-failed", host.Critical, "It is too hot, and the host could not be switched off.", "Switch the host off by hand."},
		{"update.discarded", host.OK, "An update that was ready was discarded.", none},
		{"update.dropped", host.Warning, "An update that was kept cannot be used any more.", "Send the update again."},
		{"update.failed", host.Warning, "Updates cannot be taken in.", "Check the card."},
		{"update.refused", host.Warning, "An update was refused.", "Send an update that is signed, whole, and made for this board."},
		{"update.staged", host.OK, "An update was verified and is ready.", "Install it."},
		{"volume.created", host.OK, "A volume was created.", none},
		{"volume.deleted", host.OK, "A volume was deleted.", none},
		{"volume.failed", host.Critical, "A volume cannot be used.", "Go back to a copy of the volume, or delete it."},
		{"volume.full", host.Critical, "The volumes find no room to write to, or have it again.", "Delete volumes or images that are not needed."},
		{"volume.import-failed", host.Warning, "A volume was not imported.", "Check the address and the checksum of the image, and import it again."},
		{"volume.imported", host.OK, "A volume was imported.", none},
		{"volume.merged", host.OK, "An earlier state of a volume that nobody needs any more was merged into it.", none},
		{"volume.missing", host.Warning, "A volume that the settings name cannot be made.", "Correct the settings, or what keeps the volume from being made."},
		{"volume.reachable", host.OK, "The server of a volume can be reached again.", none},
		{"volume.renamed", host.OK, "A volume got another name.", none},
		{"volume.reservations-lost", host.Warning, "A volume lost the reservations that its hosts had made.", "Check the card. Hosts that rely on reservations have to register again."},
		{"volume.resized", host.OK, "A volume has another size.", none},
		{"volume.reverted", host.OK, "A volume went back to a snapshot.", none},
		{"volume.snapshot", host.OK, "A snapshot of a volume was taken.", none},
		{"volume.unreachable", host.Critical, "The server of a volume cannot be reached.", "Check the NBD server and the network."},
		{"volumes.failed", host.Critical, "The volumes cannot be used.", "Check the card or disk that they are on."},
		{"volumes.restored", host.OK, "The volumes can be used again.", none},
		{"watchdog.expired", host.Critical, "The host's watchdog timer ran out.", "Check the host's operating system."},
		{"watchdog.failed", host.Critical, "The action of the host's watchdog timer failed.", "Check the wires to the host's power header."},
		{"watchdog.missing", host.Warning, "The board's hardware watchdog cannot be used.", "Check the board's kernel."},
		{"watchdog.pre-timeout", host.Warning, "The host's watchdog timer is about to run out.", none},
		{"watchdog.set", host.OK, "The host's watchdog timer was set, started or stopped.", none},
		{"wire.failed", host.Warning, "A wire to the host does not work.", "Check the wire and its settings."},
		{"wire.restored", host.OK, "A wire to the host works again.", none},
	} {
		if !yield(k) {
			return
		}
	}
}
