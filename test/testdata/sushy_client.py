"""What OpenStack Ironic does with a host, by its own library.

sushy_client.py URL USER PASSWORD STEP [ARGUMENT...]
"""
import logging
import sys
import time
import warnings

import sushy
from sushy import auth
from sushy import exceptions
from sushy import taskmonitor

warnings.filterwarnings("ignore")  # of the certificate, which is the board's own
logging.basicConfig(level=logging.ERROR)


def until(what, check, limit=60):
    end = time.time() + limit
    while not check():
        if time.time() > end:
            sys.exit("not within %d s: %s" % (limit, what))
        time.sleep(0.2)


def want(what, got, expected):
    if got != expected:
        sys.exit("%s: got %r, want %r" % (what, got, expected))


def raises(what, kind, f):
    try:
        f()
    except kind as e:
        print("%s: %s" % (what, str(e)[:100]))
        return e
    sys.exit("%s: no %s" % (what, kind.__name__))


def power(system, state):
    def reached():
        system.refresh(force=True)
        return system.power_state == state
    until("power state %s" % state, reached)


def cd(resource):
    for device in resource.virtual_media.get_members():
        if sushy.VIRTUAL_MEDIA_CD in device.media_types:
            return device
    sys.exit("no drive takes a CD")


def look(root):
    """What Ironic reads to enrol and inspect a machine."""
    system = root.get_system()
    want("the only system", system.identity, "system")
    want("a system by its path", root.get_system("/redfish/v1/Systems/system").uuid, system.uuid)
    want("managers", [m.identity for m in system.managers], ["bmc"])
    want("chassis", [c.identity for c in system.chassis], ["chassis"])
    want("the manager's system", root.get_manager().systems[0].uuid, system.uuid)
    want("indicator", system.indicator_led is not None, True)
    for resource in (root.get_manager(), root.get_chassis(), root.get_update_service(), root.get_task_service(),
                     root.get_session_service(), root.get_event_service(), root.get_certificate_service()):
        want("identity", bool(resource.identity), True)
    print(system.memory_summary, system.get_allowed_system_boot_source_values(), root.get_manager().firmware_version)
    session = root.get_session(root._auth._session_resource_id)
    want("session", session.username, root._auth._username)
    inventory = root.get_update_service().firmware_inventory.get_members()
    want("firmware", [i.identity for i in inventory], ["bmc"])
    thermal = root.get_chassis().thermal
    want("temperatures", len(thermal.temperatures) > 0, True)
    want("fans", len(thermal.fans) > 0, True)
    want("power supplies", root.get_chassis().power is not None, True)


def deploy(root, image):
    """A deployment: boot an image from virtual media, once."""
    system = root.get_system()
    drive = cd(root.get_manager())
    if drive.inserted:
        drive.eject_media()
    drive.insert_media(image, inserted=True, write_protected=True)
    drive.refresh(force=True)
    want("inserted", (drive.inserted, drive.image, drive.write_protected), (True, image, True))
    system.set_system_boot_options(sushy.BOOT_SOURCE_TARGET_CD, enabled=sushy.BOOT_SOURCE_ENABLED_ONCE)
    system.refresh(force=True)
    want("boot source", (system.boot.target, system.boot.enabled), (sushy.BootSource.CD, sushy.BootSourceOverrideEnabled.ONCE))
    if system.power_state == sushy.SYSTEM_POWER_STATE_ON:
        system.reset_system(sushy.RESET_FORCE_OFF)
        power(system, sushy.SYSTEM_POWER_STATE_OFF)
    system.reset_system(sushy.RESET_ON)
    power(system, sushy.SYSTEM_POWER_STATE_ON)


def cycle(root, image):
    """The end of it: eject, and boot from the disk."""
    system = root.get_system()
    drive = cd(root.get_manager())
    drive.eject_media()
    drive.refresh(force=True)
    want("after the ejection", (drive.inserted, drive.image or ""), (False, ""))
    system.set_system_boot_options(sushy.BOOT_SOURCE_TARGET_HDD, enabled=sushy.BOOT_SOURCE_ENABLED_CONTINUOUS)
    system.refresh(force=True)
    want("boot source", system.boot.enabled, sushy.BootSourceOverrideEnabled.CONTINUOUS)
    system.reset_system(sushy.ResetType.POWER_CYCLE)
    power(system, sushy.SYSTEM_POWER_STATE_ON)
    raises("an image that is not there", exceptions.HTTPError, lambda: drive.insert_media(image + ".none"))


def fetch(root, good, bad):
    """Firmware updates, as Ironic's firmware interface does them."""
    updates = root.get_update_service()

    def run(url):
        monitor = updates.simple_update(url, targets=["/redfish/v1/UpdateService/FirmwareInventory/bmc"])
        # Debian's package has not the registries that root.get_task_monitor needs.
        task = taskmonitor.TaskMonitor(root._conn, monitor.task_monitor_uri).get_task()

        def ended():
            task.refresh(force=True)
            return task.task_state not in (sushy.TASK_STATE_NEW, sushy.TASK_STATE_STARTING, sushy.TASK_STATE_RUNNING)
        until("the task to end", ended)
        monitor.wait(10)
        return task
    task = run(good)
    want("good", (task.task_state, task.task_status, task.percent_complete), (sushy.TASK_STATE_COMPLETED, sushy.HEALTH_OK, 100))
    want("messages", len(task.messages) > 0, True)
    want("staged", len(updates.firmware_inventory.get_members()), 2)
    task = run(bad)
    want("bad", (task.task_state, task.task_status), (sushy.TASK_STATE_EXCEPTION, sushy.HEALTH_CRITICAL))


def errors(root):
    """Bad input raises what it should."""
    system, manager = root.get_system(), root.get_manager()
    post = system._conn.post
    e = raises("a reset type", exceptions.BadRequestError,
               lambda: post("/redfish/v1/Systems/system/Actions/ComputerSystem.Reset", data={"ResetType": "Explode"}))
    want("its code", e.code.startswith("Base.1.") and e.code.endswith(".ActionParameterNotSupported") or e.code.endswith(".ActionParameterValueNotInList"), True)
    raises("a reset type that is not offered", exceptions.InvalidParameterValueError, lambda: system.reset_system(sushy.ResetType.SUSPEND))
    raises("a boot source", exceptions.InvalidParameterValueError, lambda: system.set_system_boot_options("nowhere"))
    raises("no system", exceptions.ResourceNotFoundError, lambda: root.get_system("/redfish/v1/Systems/none"))
    raises("no session", exceptions.ResourceNotFoundError, lambda: root.get_session("/redfish/v1/SessionService/Sessions/none"))
    raises("an image's scheme", exceptions.BadRequestError, lambda: cd(manager).insert_media("nfs://127.0.0.1/x.iso"))
    raises("a write that is not one", exceptions.BadRequestError, lambda: system._conn.patch("/redfish/v1/Systems/system", data={"UUID": "x"}))
    raises("a stale entity tag", exceptions.HTTPError,
           lambda: system._conn.patch("/redfish/v1/Systems/system", data={"PowerRestorePolicy": "AlwaysOn"}, headers={"If-Match": '"stale"'}))


def main(url, user, password, step, *arguments):
    raises("a wrong password", exceptions.AccessError,
           lambda: sushy.Sushy(url, verify=False, auth=auth.SessionAuth(user, password + "x")).get_system())
    for kind in (auth.SessionAuth, auth.BasicAuth):
        if kind is auth.BasicAuth and step != "errors":
            continue
        login = kind(user, password)
        root = sushy.Sushy(url, verify=False, auth=login)
        {"look": look, "deploy": deploy, "cycle": cycle, "fetch": fetch, "errors": errors}[step](root, *arguments)
        login.close()
    print("all well")


main(*sys.argv[1:])
