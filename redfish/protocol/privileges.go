package protocol

import "github.com/nitrino/nitrino/redfish/resource"

// A mapping says which privileges, any one of the set, each operation on an
// entity needs; under is the entity that it belongs to, where that makes a
// difference. Nothing needed is 0.
type mapping struct {
	entity, under                 string
	get, patch, post, put, delete resource.Privilege
}

// of is the privilege of a method.
func (m mapping) of(method string) resource.Privilege {
	switch method {
	case "PATCH":
		return m.patch
	case "POST":
		return m.post
	case "PUT":
		return m.put
	case "DELETE":
		return m.delete
	}
	return m.get
}

// standard is DMTF's Redfish_1.8.0_PrivilegeRegistry, as far as there are such
// resources here.
func standard() []mapping {
	const (
		login      = resource.Login
		manager    = resource.ConfigureManager
		users      = resource.ConfigureUsers
		self       = resource.ConfigureSelf
		components = resource.ConfigureComponents
	)
	return []mapping{
		{"AccountService", "", login, users, users, users, users},
		{"ActionInfo", "", login, manager, manager, manager, manager},
		{"Assembly", "", login, components, components, components, components},
		{"BootOption", "", login, components, components, components, components},
		{"BootOptionCollection", "", login, components, components, components, components},
		{"Certificate", "", manager, manager, manager, manager, manager},
		{"Certificate", "ComputerSystem", components, components, components, components, components},
		{"CertificateCollection", "", manager, manager, manager, manager, manager},
		{"CertificateCollection", "ComputerSystem", components, components, components, components, components},
		{"CertificateLocations", "", manager, manager, manager, manager, manager},
		{"CertificateService", "", login, manager, manager, manager, manager},
		{"Chassis", "", login, components, components, components, components},
		{"ChassisCollection", "", login, components, components, components, components},
		{"ComputerSystem", "", login, components, components, components, components},
		{"ComputerSystemCollection", "", login, components, components, components, components},
		{"Connection", "", login, components, components, components, components},
		{"ConnectionCollection", "", login, components, components, components, components},
		{"Control", "", login, manager, manager, manager, manager},
		{"ControlCollection", "", login, manager, manager, manager, manager},
		{"Endpoint", "", login, components, components, components, components},
		{"EndpointCollection", "", login, components, components, components, components},
		{"EnvironmentMetrics", "", login, manager, manager, manager, manager},
		{"EthernetInterface", "", login, components, components, components, components},
		{"EthernetInterface", "Manager", login, manager, manager, manager, manager},
		{"EthernetInterfaceCollection", "", login, components, components, components, components},
		{"EthernetInterfaceCollection", "Manager", login, manager, manager, manager, manager},
		{"EventDestination", "", login, manager | self, manager | self, manager | self, manager | self},
		{"EventDestinationCollection", "", login, manager | components, manager | components, manager | components, manager | components},
		{"EventService", "", login, manager, manager, manager, manager},
		{"Fabric", "", login, components, components, components, components},
		{"FabricCollection", "", login, components, components, components, components},
		{"Fan", "", login, manager, manager, manager, manager},
		{"FanCollection", "", login, manager, manager, manager, manager},
		{"JsonSchemaFile", "", login, manager, manager, manager, manager},
		{"JsonSchemaFileCollection", "", login, manager, manager, manager, manager},
		{"Key", "", login, manager, manager, manager, manager},
		{"KeyCollection", "", login, manager, manager, manager, manager},
		{"LogEntry", "", login, manager, manager, manager, manager},
		{"LogEntry", "ComputerSystem", login, components, components, components, components},
		{"LogEntry", "Chassis", login, components, components, components, components},
		{"LogEntryCollection", "", login, manager, manager, manager, manager},
		{"LogEntryCollection", "ComputerSystem", login, components, components, components, components},
		{"LogEntryCollection", "Chassis", login, components, components, components, components},
		{"LogService", "", login, manager, manager, manager, manager},
		{"LogService", "ComputerSystem", login, components, components, components, components},
		{"LogService", "Chassis", login, components, components, components, components},
		{"LogServiceCollection", "", login, manager, manager, manager, manager},
		{"LogServiceCollection", "ComputerSystem", login, components, components, components, components},
		{"LogServiceCollection", "Chassis", login, components, components, components, components},
		{"Manager", "", login, manager, manager, manager, manager},
		{"ManagerAccount", "", manager | users | self, users, users, users, users},
		{"ManagerAccountCollection", "", login, users, users, users, users},
		{"ManagerCollection", "", login, manager, manager, manager, manager},
		{"ManagerNetworkProtocol", "", login, manager, manager, manager, manager},
		{"MemoryCollection", "", login, components, components, components, components},
		{"MessageRegistryFile", "", login, manager, manager, manager, manager},
		{"MessageRegistryFileCollection", "", login, manager, manager, manager, manager},
		{"MetricDefinition", "", login, manager, manager, manager, manager},
		{"MetricDefinitionCollection", "", login, manager, manager, manager, manager},
		{"MetricReport", "", login, manager, manager, manager, manager},
		{"MetricReportCollection", "", login, manager, manager, manager, manager},
		{"MetricReportDefinition", "", login, manager, manager, manager, manager},
		{"MetricReportDefinitionCollection", "", login, manager, manager, manager, manager},
		{"Outlet", "", login, components, components, components, components},
		{"Power", "", login, manager, manager, manager, manager},
		{"PowerSubsystem", "", login, manager, manager, manager, manager},
		{"PowerSupply", "", login, manager, manager, manager, manager},
		{"PowerSupplyCollection", "", login, manager, manager, manager, manager},
		{"PowerSupplyMetrics", "", login, manager, manager, manager, manager},
		{"Processor", "", login, components, components, components, components},
		{"ProcessorCollection", "", login, components, components, components, components},
		{"Role", "", login, manager, manager, manager, manager},
		{"RoleCollection", "", login, manager, manager, manager, manager},
		{"Sensor", "", login, components, components, components, components},
		{"SensorCollection", "", login, components, components, components, components},
		{"SerialInterface", "", login, manager, manager, manager, manager},
		{"SerialInterfaceCollection", "", login, manager, manager, manager, manager},
		{"ServiceRoot", "", 0, manager, manager, manager, manager},
		{"Session", "", manager | self, manager, manager, manager, manager | self},
		{"SessionCollection", "", login, manager, login, manager, manager},
		{"SessionService", "", login, manager, manager, manager, manager},
		{"SoftwareInventory", "", login, components, components, components, components},
		{"SoftwareInventoryCollection", "", login, components, components, components, components},
		{"Storage", "", login, components, components, components, components},
		{"StorageCollection", "", login, components, components, components, components},
		{"StorageController", "", login, components, components, components, components},
		{"StorageControllerCollection", "", login, components, components, components, components},
		{"Task", "", login, manager, manager, manager, manager},
		{"TaskCollection", "", login, manager, manager, manager, manager},
		{"TaskService", "", login, manager, manager, manager, manager},
		{"TelemetryService", "", login, manager, manager, manager, manager},
		{"Thermal", "", login, manager, manager, manager, manager},
		{"ThermalMetrics", "", login, manager, manager, manager, manager},
		{"ThermalSubsystem", "", login, manager, manager, manager, manager},
		{"Triggers", "", login, manager, manager, manager, manager},
		{"TriggersCollection", "", login, manager, manager, manager, manager},
		{"UpdateService", "", login, components, components, components, components},
		{"VirtualMedia", "", login, manager, manager, manager, manager},
		{"VirtualMediaCollection", "", login, manager, manager, manager, manager},
		{"Volume", "", login, components, components, components, components},
		{"VolumeCollection", "", login, components, components, components, components},
	}
}

// swordfish is what that registry does not have: resources of SNIA's Swordfish,
// which are as all others of storage.
func swordfish() []mapping {
	const login, components = resource.Login, resource.ConfigureComponents
	return []mapping{
		{"StoragePool", "", login, components, components, components, components},
		{"StoragePoolCollection", "", login, components, components, components, components},
	}
}
