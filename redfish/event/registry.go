package event

import "github.com/nitrino/nitrino/redfish/message"

// Names of registries, as MessageIds begin.
const (
	baseName     = "Base"
	ownName      = "Nitrino"
	resourceName = "ResourceEvent"
	taskName     = "TaskEvent"
)

func registryNames() []string { return []string{baseName, ownName, resourceName, taskName} }

const none = "None."

// resourceEvent makes a message of DMTF's registry ResourceEvent.1.4.3, as far
// as this service sends them.
func resourceEvent(key string) (m message.Message, eventType string, found bool) {
	text, eventType := "", ""
	switch key {
	case "ResourceCreated":
		text, eventType = "The resource was created successfully.", typeAdded
	case "ResourceRemoved":
		text, eventType = "The resource was removed successfully.", typeRemoved
	case "ResourceChanged":
		text, eventType = "One or more resource properties have changed.", typeUpdated
	case "TestMessage":
		text, eventType = "Test message.", typeOther
	default:
		return message.Message{}, "", false
	}
	return message.New(resourceName+".1.4."+key, message.OK, text, none), eventType, true
}

// taskEvent makes a message of DMTF's registry TaskEvent.1.0.5.
func taskEvent(key string, args ...string) (m message.Message, found bool) {
	text, severity := "", message.Warning
	switch key {
	case "TaskStarted":
		text, severity = "The task with Id '%1' has started.", message.OK
	case "TaskCompletedOK":
		text, severity = "The task with Id '%1' has completed.", message.OK
	case "TaskCompletedWarning":
		text = "The task with Id '%1' has completed with warnings."
	case "TaskAborted":
		text, severity = "The task with Id '%1' has completed with errors.", message.Critical
	case "TaskCancelled":
		text = "Work on the task with Id '%1' was halted prior to completion due to an explicit request."
	case "TaskRemoved":
		text = "The task with Id '%1' was removed."
	case "TaskPaused":
		text = "The task with Id '%1' was paused."
	case "TaskResumed":
		text, severity = "The task with Id '%1' has resumed.", message.OK
	case "TaskProgressChanged":
		text, severity = "The task with Id '%1' has changed to progress %2 percent complete.", message.OK
	default:
		return message.Message{}, false
	}
	return message.New(taskName+".1.0."+key, severity, text, none, args...), true
}
