package simrack

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"time"

	"firstlight/internal/refbmc"
)

// post carries out an action.
func (b *Redfish) post(w http.ResponseWriter, at string, body []byte) *answerError {
	var in struct {
		ResetType string
		Image     string
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &in); err != nil {
			return refuse(http.StatusBadRequest, "MalformedJSON", "The request is not JSON.")
		}
	}
	b.mu.Lock()
	a, ok := b.actions[at]
	doc := b.docs[a.of]
	lie := b.Faults.Lie
	b.mu.Unlock()
	var refused *answerError
	switch {
	case !ok:
		return refuse(http.StatusNotFound, "ResourceMissingAtURI", "There is no action at %s.", at)
	case a.kind == "ComputerSystem.Reset" && a.of == b.system:
		refused = b.reset(in.ResetType, lie)
	case a.kind == "Outlet.PowerControl":
		refused = b.control(a.of, body)
	case a.kind == "Manager.Reset":
		b.event("bmc-reset", in.ResetType)
		b.mu.Lock()
		clear(b.sessions)
		b.Faults.RevertUntilReset = false
		b.down = time.Now().Add(restartTakes)
		b.mu.Unlock()
	case a.kind == "VirtualMedia.InsertMedia" || a.kind == "VirtualMedia.EjectMedia":
		b.mu.Lock()
		doc["Image"], doc["Inserted"] = any(in.Image), in.Image != ""
		if in.Image == "" {
			doc["Image"] = nil
		}
		b.mu.Unlock()
	default:
		return refuse(http.StatusBadRequest, "ActionNotSupported", "The action %s is not simulated.", a.kind)
	}
	if refused == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return refused
}

// reset is ComputerSystem.Reset.
func (b *Redfish) reset(how string, lie bool) *answerError {
	on := b.Machine.Powered()
	kind, do := "", (func(context.Context) error)(nil)
	switch how {
	case "On", "ForceOn":
		if !on {
			kind, do = "power-on", b.powerOn
		}
	case "ForceOff":
		if on {
			kind, do = "power-off", b.Machine.PowerOff
		}
	case "GracefulShutdown":
		if on {
			kind, do = "soft-off", b.Machine.SoftOff
		}
	case "PowerCycle", "ForceRestart":
		if how == "PowerCycle" && b.Make.NoPowerCycle {
			return refuse(http.StatusBadRequest, "ActionParameterNotSupported", "PowerCycle is not supported.")
		}
		if !on {
			return refuse(http.StatusConflict, "ResourceInStandby", "The machine is off.")
		}
		kind, do = map[string]string{"PowerCycle": "power-cycle", "ForceRestart": "reset"}[how], b.restart
	default:
		return refuse(http.StatusBadRequest, "ActionParameterValueNotInList", "%q is no way to reset.", how)
	}
	if do == nil {
		return nil
	}
	b.event(kind, how)
	if lie {
		return nil
	}
	done := make(chan error, 1) // buffered: nobody may be waiting any more
	select {
	case b.ops <- func(ctx context.Context) { done <- do(ctx) }:
	default:
		return refuse(http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", "The service is busy.")
	}
	select {
	case err := <-done:
		if err != nil {
			b.log().Error("machine did not obey its bmc", "listen", b.Listen, "action", kind, "error", err)
			return refuse(http.StatusInternalServerError, "InternalError", "The machine did not obey.")
		}
	case <-time.After(replyWithin):
	}
	return nil
}

func (b *Redfish) powerOn(ctx context.Context) error {
	if b.Machine.Powered() {
		return nil
	}
	return b.Machine.PowerOn(ctx, b.TakeBoot())
}

func (b *Redfish) restart(ctx context.Context) error {
	if err := b.Machine.PowerOff(ctx); err != nil {
		return err
	}
	return b.Machine.PowerOn(ctx, b.TakeBoot())
}

// TakeBoot returns the override for the boot that starts now, and forgets it
// unless it is persistent; as refbmc.BMC's.
func (b *Redfish) TakeBoot() refbmc.Boot {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.system
	if b.Make.Pending {
		at += "/SD"
	}
	doc, _ := b.docs[at]["Boot"].(map[string]any)
	out := refbmc.Boot{EFI: doc["BootSourceOverrideMode"] != "Legacy", Persistent: doc["BootSourceOverrideEnabled"] == "Continuous"}
	switch doc["BootSourceOverrideTarget"] {
	case "Pxe":
		out.Device = "pxe"
	case "Hdd":
		out.Device = "disk"
	}
	enabled := out.Persistent || doc["BootSourceOverrideEnabled"] == "Once"
	if doc != nil && !out.Persistent {
		used := maps.Clone(doc) // the other may be on its way to a client
		used["BootSourceOverrideEnabled"] = "Disabled"
		b.docs[at]["Boot"] = used
	}
	if !enabled || b.Faults.IgnoreOverride {
		return refbmc.Boot{}
	}
	return out
}
