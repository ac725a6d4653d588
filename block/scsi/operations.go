package scsi

// Operation codes that functions tell apart.
const (
	opModeSelect10  = 0x55
	opModeSense10   = 0x5a
	opWriteSame16   = 0x93
	opReadDefects12 = 0xb7
)

// newNowhereTable has what a target answers where it has no logical unit (SPC-4
// section 5.9).
func newNowhereTable() table {
	var t table
	t.addCommon()
	return t
}

// newTable has the operations of a disk, or of a CD-ROM drive.
func newTable(cd bool) table {
	var t table
	t.addCommon()
	t.addPrimary()
	t.addReads()
	if cd {
		t.addDisc()
		return t
	}
	t.addSynchronize()
	t.addWrites()
	t.addCopies()
	return t
}

// The CDB usage data below has a bit for each that is looked at; first comes the code
// itself, and in place of the service action the action.

// addCommon adds what can be asked of a LUN without a unit too.
func (t *table) addCommon() {
	t.add(
		&operation{code: 0x03, action: -1, name: "REQUEST SENSE", usage: []byte{0x03, 0x01, 0, 0, 0xff, 0},
			unattended: true, reserved: true, decode: decodeRequestSense, run: requestSense, prompt: true},
		&operation{code: 0x12, action: -1, name: "INQUIRY", usage: []byte{0x12, 0x01, 0xff, 0xff, 0xff, 0},
			unattended: true, reserved: true, decode: decodeInquiry, run: inquiry, prompt: true},
		&operation{code: 0xa0, action: -1, name: "REPORT LUNS", usage: []byte{0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0},
			unattended: true, reserved: true, decode: decodeReportLUNs, run: reportLUNs, prompt: true},
	)
}

// addPrimary adds what both kinds of devices have from SPC-4.
func (t *table) addPrimary() {
	t.add(
		&operation{code: 0x00, action: -1, name: "TEST UNIT READY", usage: []byte{0x00, 0, 0, 0, 0, 0},
			medium: true, run: ready, prompt: true},
		&operation{code: 0x15, action: -1, name: "MODE SELECT(6)", usage: []byte{0x15, 0x11, 0, 0, 0xff, 0},
			class: conflictsAlways, decode: decodeModeSelect, run: modeSelect},
		&operation{code: 0x55, action: -1, name: "MODE SELECT(10)", usage: []byte{0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0},
			class: conflictsAlways, decode: decodeModeSelect, run: modeSelect},
		&operation{code: 0x1a, action: -1, name: "MODE SENSE(6)", usage: []byte{0x1a, 0x08, 0xff, 0xff, 0xff, 0},
			class: conflictsExclusive, decode: decodeModeSense, run: modeSense, prompt: true},
		&operation{code: 0x5a, action: -1, name: "MODE SENSE(10)", usage: []byte{0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0},
			class: conflictsExclusive, decode: decodeModeSense, run: modeSense, prompt: true},
		&operation{code: 0x16, action: -1, name: "RESERVE(6)", usage: []byte{0x16, 0x11, 0, 0, 0, 0}, decode: decodeReserve, run: reserve, prompt: true},
		&operation{code: 0x56, action: -1, name: "RESERVE(10)", usage: []byte{0x56, 0x11, 0, 0, 0, 0, 0, 0, 0, 0}, decode: decodeReserve, run: reserve, prompt: true},
		&operation{code: 0x17, action: -1, name: "RELEASE(6)", usage: []byte{0x17, 0x11, 0, 0, 0, 0},
			reserved: true, decode: decodeReserve, run: release, prompt: true},
		&operation{code: 0x57, action: -1, name: "RELEASE(10)", usage: []byte{0x57, 0x11, 0, 0, 0, 0, 0, 0, 0, 0},
			reserved: true, decode: decodeReserve, run: release, prompt: true},
		&operation{code: 0x1b, action: -1, name: "START STOP UNIT", usage: []byte{0x1b, 0, 0, 0, 0xf7, 0},
			class: conflictsAlways, lenient: starts, run: startStop},
		&operation{code: 0x1e, action: -1, name: "PREVENT ALLOW MEDIUM REMOVAL", usage: []byte{0x1e, 0, 0, 0, 0x03, 0},
			class: conflictsAlways, lenient: allows, run: prevent, prompt: true},
		&operation{code: 0xa3, action: 0x05, name: "REPORT IDENTIFYING INFORMATION", usage: []byte{0xa3, 0x05, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0},
			decode: decodeMaintenance, run: reportIdentifying, prompt: true},
		&operation{code: 0xa3, action: 0x0a, name: "REPORT TARGET PORT GROUPS", usage: []byte{0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0},
			decode: decodeMaintenance, run: reportGroups, prompt: true},
		&operation{code: 0xa3, action: 0x0c, name: "REPORT SUPPORTED OPERATION CODES", usage: []byte{0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsExclusive, decode: decodeMaintenance, run: reportOperations, prompt: true},
	)
	for action, name := range []string{"READ KEYS", "READ RESERVATION", "REPORT CAPABILITIES", "READ FULL STATUS"} {
		t.add(&operation{code: 0x5e, action: action, name: "PERSISTENT RESERVE IN, " + name, usage: []byte{0x5e, byte(action), 0, 0, 0, 0, 0, 0xff, 0xff, 0},
			decode: decodeReserveIn, run: reserveIn, prompt: true})
	}
	for action, name := range []string{"REGISTER", "RESERVE", "RELEASE", "CLEAR", "PREEMPT", "PREEMPT AND ABORT", "REGISTER AND IGNORE EXISTING KEY", "REGISTER AND MOVE"} {
		t.add(&operation{code: 0x5f, action: action, name: "PERSISTENT RESERVE OUT, " + name, usage: []byte{0x5f, byte(action), 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0},
			decode: decodeReserveOut, run: reserveOut})
	}
}

// addReads adds reading, which both kinds of devices do.
func (t *table) addReads() {
	t.add(
		&operation{code: 0x28, action: -1, name: "READ(10)", usage: []byte{0x28, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0},
			class: conflictsExclusive, medium: true, decode: decodeRead, try: tryRead, run: read},
		&operation{code: 0xa8, action: -1, name: "READ(12)", usage: []byte{0xa8, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsExclusive, medium: true, decode: decodeRead, try: tryRead, run: read},
		&operation{code: 0x25, action: -1, name: "READ CAPACITY(10)", usage: []byte{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0},
			medium: true, decode: decodeCapacity10, run: capacity10, prompt: true},
		&operation{code: 0x2f, action: -1, name: "VERIFY(10)", usage: []byte{0x2f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0},
			class: conflictsExclusive, medium: true, decode: decodeVerify, run: verify},
	)
}

// addSynchronize adds the rest of what a disk reads, and what makes its writes last.
func (t *table) addSynchronize() {
	t.add(
		&operation{code: 0x08, action: -1, name: "READ(6)", usage: []byte{0x08, 0x1f, 0xff, 0xff, 0xff, 0},
			class: conflictsExclusive, medium: true, decode: decodeRead, try: tryRead, run: read},
		&operation{code: 0x88, action: -1, name: "READ(16)", usage: []byte{0x88, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsExclusive, medium: true, decode: decodeRead, try: tryRead, run: read},
		&operation{code: 0x9e, action: 0x10, name: "READ CAPACITY(16)", usage: []byte{0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0},
			medium: true, decode: decodeCapacity16, run: capacity16, prompt: true},
		&operation{code: 0x9e, action: 0x12, name: "GET LBA STATUS", usage: []byte{0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsExclusive, medium: true, decode: decodeStatus, run: status},
		&operation{code: 0x37, action: -1, name: "READ DEFECT DATA(10)", usage: []byte{0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0},
			class: conflictsExclusive, decode: decodeDefects, run: defects, prompt: true},
		&operation{code: 0xb7, action: -1, name: "READ DEFECT DATA(12)", usage: []byte{0xb7, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsExclusive, decode: decodeDefects, run: defects, prompt: true},
		&operation{code: 0x34, action: -1, name: "PRE-FETCH(10)", usage: []byte{0x34, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0},
			class: conflictsExclusive, medium: true, decode: decodeSync, run: prefetch, prompt: true},
		&operation{code: 0x90, action: -1, name: "PRE-FETCH(16)", usage: []byte{0x90, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsExclusive, medium: true, decode: decodeSync, run: prefetch, prompt: true},
		&operation{code: 0x35, action: -1, name: "SYNCHRONIZE CACHE(10)", usage: []byte{0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0},
			class: conflictsAlways, medium: true, decode: decodeSync, run: synchronize},
		&operation{code: 0x91, action: -1, name: "SYNCHRONIZE CACHE(16)", usage: []byte{0x91, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsAlways, medium: true, decode: decodeSync, run: synchronize},
		&operation{code: 0xaf, action: -1, name: "VERIFY(12)", usage: []byte{0xaf, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsExclusive, medium: true, decode: decodeVerify, run: verify},
		&operation{code: 0x8f, action: -1, name: "VERIFY(16)", usage: []byte{0x8f, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsExclusive, medium: true, decode: decodeVerify, run: verify},
	)
}

// addWrites adds what changes a disk.
func (t *table) addWrites() {
	t.add(
		&operation{code: 0x0a, action: -1, name: "WRITE(6)", usage: []byte{0x0a, 0x1f, 0xff, 0xff, 0xff, 0},
			class: conflictsAlways, medium: true, decode: decodeWrite, try: tryWrite, run: write},
		&operation{code: 0x2a, action: -1, name: "WRITE(10)", usage: []byte{0x2a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0},
			class: conflictsAlways, medium: true, decode: decodeWrite, try: tryWrite, run: write},
		&operation{code: 0xaa, action: -1, name: "WRITE(12)", usage: []byte{0xaa, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsAlways, medium: true, decode: decodeWrite, try: tryWrite, run: write},
		&operation{code: 0x8a, action: -1, name: "WRITE(16)", usage: []byte{0x8a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsAlways, medium: true, decode: decodeWrite, try: tryWrite, run: write},
		&operation{code: 0x2e, action: -1, name: "WRITE AND VERIFY(10)", usage: []byte{0x2e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0},
			class: conflictsAlways, medium: true, decode: decodeWriteVerify, run: writeVerify},
		&operation{code: 0xae, action: -1, name: "WRITE AND VERIFY(12)", usage: []byte{0xae, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsAlways, medium: true, decode: decodeWriteVerify, run: writeVerify},
		&operation{code: 0x8e, action: -1, name: "WRITE AND VERIFY(16)", usage: []byte{0x8e, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsAlways, medium: true, decode: decodeWriteVerify, run: writeVerify},
		&operation{code: 0x41, action: -1, name: "WRITE SAME(10)", usage: []byte{0x41, 0xfe, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0},
			class: conflictsAlways, medium: true, decode: decodeWriteSame, run: writeSame},
		&operation{code: 0x93, action: -1, name: "WRITE SAME(16)", usage: []byte{0x93, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsAlways, medium: true, decode: decodeWriteSame, run: writeSame},
		&operation{code: 0x42, action: -1, name: "UNMAP", usage: []byte{0x42, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0},
			class: conflictsAlways, medium: true, decode: decodeUnmap, run: unmap},
		&operation{code: 0x48, action: 0x02, name: "SANITIZE, BLOCK ERASE", usage: []byte{0x48, 0xe2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0},
			class: conflictsAlways, medium: true, decode: decodeErase, run: erase},
		&operation{code: 0x89, action: -1, name: "COMPARE AND WRITE", usage: []byte{0x89, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0, 0},
			class: conflictsAlways, medium: true, decode: decodeCompareWrite, run: compareWrite},
		&operation{code: 0x8b, action: -1, name: "ORWRITE(16)", usage: []byte{0x8b, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsAlways, medium: true, decode: decodeWrite, run: orWrite},
	)
}

// addCopies adds the copying of one unit to another (SPC-4 section 5.17).
func (t *table) addCopies() {
	t.add(
		&operation{code: 0x83, action: 0x00, name: "EXTENDED COPY(LID1)", usage: []byte{0x83, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsAlways, medium: true, decode: decodeCopy, run: extendedCopy},
		&operation{code: 0x84, action: actionCopyStatus, name: "RECEIVE COPY STATUS(LID1)", usage: []byte{0x84, actionCopyStatus, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsAlways, decode: decodeCopyResults, run: receiveCopyStatus, prompt: true},
		&operation{code: 0x84, action: actionCopyParameters, name: "RECEIVE COPY OPERATING PARAMETERS", usage: []byte{0x84, actionCopyParameters, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0},
			class: conflictsAlways, decode: decodeCopyResults, run: receiveCopyParameters, prompt: true},
	)
}

// addDisc adds what a CD-ROM drive has from MMC-6.
func (t *table) addDisc() {
	t.add(
		&operation{code: 0x43, action: -1, name: "READ TOC/PMA/ATIP", usage: []byte{0x43, 0x02, 0x0f, 0, 0, 0, 0xff, 0xff, 0xff, 0},
			class: conflictsExclusive, medium: true, decode: decodeDisc, run: readTOC, prompt: true},
		&operation{code: 0x46, action: -1, name: "GET CONFIGURATION", usage: []byte{0x46, 0x03, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0},
			unattended: true, decode: decodeDisc, run: configuration, prompt: true},
		&operation{code: 0x4a, action: -1, name: "GET EVENT STATUS NOTIFICATION", usage: []byte{0x4a, 0x01, 0, 0, 0xff, 0, 0, 0xff, 0xff, 0},
			unattended: true, decode: decodeDisc, run: eventStatus, prompt: true},
		&operation{code: 0x51, action: -1, name: "READ DISC INFORMATION", usage: []byte{0x51, 0x07, 0, 0, 0, 0, 0, 0xff, 0xff, 0},
			class: conflictsExclusive, medium: true, decode: decodeDisc, run: discInformation, prompt: true},
	)
}
