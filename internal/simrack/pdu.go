package simrack

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"
)

const rackPDUs = "/redfish/v1/PowerEquipment/RackPDUs"

// loadPDU makes the tree of a rack PDU, with every outlet on. b.mu is held.
func (b *Redfish) loadPDU() error {
	own := map[string]map[string]any{}
	if err := json.Unmarshal(ownTree, &own); err != nil {
		return err
	}
	root := own["/redfish/v1"]
	for _, other := range []string{"Systems", "Managers", "Chassis", "UpdateService"} {
		delete(root, other)
	}
	at := func(path string) map[string]any { return map[string]any{"@odata.id": path} }
	root["PowerEquipment"], root["Product"] = at("/redfish/v1/PowerEquipment"), "simulated PDU"
	for _, path := range []string{"/redfish", "/redfish/v1", "/redfish/v1/SessionService", sessionsPath} {
		b.docs[path] = own[path]
	}
	b.docs["/redfish/v1/PowerEquipment"] = map[string]any{"Id": "PowerEquipment", "Name": "Power equipment", "RackPDUs": at(rackPDUs)}
	outlets := map[string][]any{} // of each PDU
	var pdus []any
	for _, name := range b.Outlets {
		pdu, id, chained := strings.Cut(name, "/")
		if !chained {
			pdu, id = "1", name
		}
		if outlets[pdu] == nil {
			pdus = append(pdus, at(rackPDUs+"/"+pdu))
			b.docs[rackPDUs+"/"+pdu] = map[string]any{"Id": pdu, "Name": "Rack PDU " + pdu, "EquipmentType": "RackPDU", "Outlets": at(rackPDUs + "/" + pdu + "/Outlets")}
		}
		path := rackPDUs + "/" + pdu + "/Outlets/" + id
		outlets[pdu] = append(outlets[pdu], at(path))
		control := map[string]any{"target": path + "/Actions/Outlet.PowerControl"}
		if p := b.Make.OutletParameter; p != "" {
			control[p+"@Redfish.AllowableValues"] = []any{"On", "Off"}
		}
		b.docs[path] = map[string]any{"Id": id, "Name": "Outlet " + id, "PowerState": "On", "Actions": map[string]any{"#Outlet.PowerControl": control}}
	}
	for pdu, members := range outlets {
		b.docs[rackPDUs+"/"+pdu+"/Outlets"] = map[string]any{"Members": members, "Members@odata.count": len(members)}
	}
	b.docs[rackPDUs] = map[string]any{"Members": pdus, "Members@odata.count": len(pdus)}
	return nil
}

// outletName is how Outlets names the outlet at a path.
func outletName(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, rackPDUs+"/"), "/")
	if parts[0] == "1" {
		return parts[2]
	}
	return parts[0] + "/" + parts[2]
}

// control is Outlet.PowerControl. Its parameter is PowerState unless the make has
// another.
func (b *Redfish) control(path string, body []byte) *answerError {
	var in map[string]string
	if err := json.Unmarshal(body, &in); err != nil {
		return refuse(http.StatusBadRequest, "MalformedJSON", "The request is not JSON.")
	}
	parameter := b.Make.OutletParameter
	if parameter == "" {
		parameter = "PowerState"
	}
	state, told := in[parameter]
	if !told || state != "On" && state != "Off" {
		return refuse(http.StatusBadRequest, "ActionParameterMissing", "The action requires the parameter %s.", parameter)
	}
	name := outletName(path)
	b.event("outlet", fmt.Sprintf("%s %s", name, state))
	b.mu.Lock()
	lie, delay := b.Faults.Lie, b.Faults.OutletDelay
	b.mu.Unlock()
	if lie {
		return nil
	}
	do := func(context.Context) {
		time.Sleep(delay)
		b.mu.Lock()
		doc := maps.Clone(b.docs[path])
		doc["PowerState"] = state
		b.docs[path] = doc
		b.mu.Unlock()
		if b.Switched != nil {
			b.Switched(name, state == "On")
		}
	}
	select {
	case b.ops <- do:
	default:
		return refuse(http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", "The service is busy.")
	}
	return nil
}
