package resource

// The URIs of resources that others link to. Systems, chassis and managers
// have one member each, with the ids that most tooling assumes.
const (
	RootURI = "/redfish/v1/"
	rootURI = "/redfish/v1"

	SystemsURI            = rootURI + "/Systems"
	SystemURI             = SystemsURI + "/system"
	SystemLogServicesURI  = SystemURI + "/LogServices"
	SystemVirtualMediaURI = SystemURI + "/VirtualMedia"
	SystemStorageURI      = SystemURI + "/Storage"
	StorageURI            = SystemStorageURI + "/volumes"

	ChassisCollectionURI = rootURI + "/Chassis"
	ChassisURI           = ChassisCollectionURI + "/chassis"
	SensorsURI           = ChassisURI + "/Sensors"
	ThermalSubsystemURI  = ChassisURI + "/ThermalSubsystem"
	PowerSubsystemURI    = ChassisURI + "/PowerSubsystem"

	ManagersURI            = rootURI + "/Managers"
	ManagerURI             = ManagersURI + "/bmc"
	ManagerLogServicesURI  = ManagerURI + "/LogServices"
	ManagerVirtualMediaURI = ManagerURI + "/VirtualMedia"
	NetworkProtocolURI     = ManagerURI + "/NetworkProtocol"
	EthernetInterfacesURI  = ManagerURI + "/EthernetInterfaces"
	CertificatesURI        = NetworkProtocolURI + "/HTTPS/Certificates"

	StoragesURI           = rootURI + "/Storage"
	FabricsURI            = rootURI + "/Fabrics"
	ISCSIFabricURI        = FabricsURI + "/iSCSI"
	SessionServiceURI     = rootURI + "/SessionService"
	SessionsURI           = SessionServiceURI + "/Sessions"
	AccountServiceURI     = rootURI + "/AccountService"
	AccountsURI           = AccountServiceURI + "/Accounts"
	RolesURI              = AccountServiceURI + "/Roles"
	PrivilegeMapURI       = RegistriesURI + "/Redfish_1.8.0_PrivilegeRegistry/Redfish_1.8.0_PrivilegeRegistry.json"
	CertificateServiceURI = rootURI + "/CertificateService"
	EventServiceURI       = rootURI + "/EventService"
	SubscriptionsURI      = EventServiceURI + "/Subscriptions"
	TaskServiceURI        = rootURI + "/TaskService"
	TasksURI              = TaskServiceURI + "/Tasks"
	UpdateServiceURI      = rootURI + "/UpdateService"
	FirmwareInventoryURI  = UpdateServiceURI + "/FirmwareInventory"
	FirmwareURI           = FirmwareInventoryURI + "/bmc"
	TelemetryServiceURI   = rootURI + "/TelemetryService"
	RegistriesURI         = rootURI + "/Registries"
	JSONSchemasURI        = rootURI + "/JsonSchemas"
)
