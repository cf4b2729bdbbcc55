package httpapi

import "time"

// repairMetrics are the names and help texts of what collectRepair gives.
var repairMetrics = []metric{
	{"rondo_hints_pending", "Hints kept here for another node, by its id.", []string{"target"}},
	{"rondo_hints_bytes", "Bytes on disk, about, of the hints kept here for another node.", []string{"target"}},
	{"rondo_hints_oldest_seconds", "Age of the oldest hint kept here for another node, 0 where there is none.", []string{"target"}},
	{"rondo_hints_delivered_total", "Hints delivered to another node.", []string{"target"}},
	{"rondo_hints_divergent_partitions", "Partitions of another node for which hints were dropped at the limit and that no exchange has mended yet.", []string{"target"}},
	{"rondo_hints_paused", "1 while an operator has paused the delivery of hints, else 0.", nil},
	{
		"rondo_repair_debt_seconds",
		"The longest time since one of this node's partitions was known to be equal on all owners; since the start of the process where one was not yet.", nil,
	},
	{"rondo_repair_never_equal_partitions", "Partitions of this node that were not known to be equal on all owners yet since the start of the process.", nil},
	{"rondo_unsynced_classes", "Partitions, by replica count, for which this node casts no read votes until it has synced with the other owners.", nil},
	{"rondo_exchanges_total", "Merkle exchanges with another node, by result (ok, failed).", []string{"result"}},
	{"rondo_exchange_objects_total", "Objects that Merkle exchanges moved, by direction (sent, received).", []string{"direction"}},
	{"rondo_exchange_bytes_total", "Bytes of the messages of Merkle exchanges, both ways.", nil},
	{"rondo_verified_objects_total", "Objects on disk that were verified in the background.", nil},
	{"rondo_damaged_objects_total", "Damaged objects that verification found. They are never served.", nil},
	{"rondo_wrong_leaves_total", "Leaves of Merkle trees that were not what the objects say. They were put right.", nil},
	{"rondo_verify_age_seconds", "Time since everything on disk was last verified; since the start of the process where it was not yet.", nil},
	{"rondo_tombstones_waiting", "Tombstones and expired values on this node that wait to be collected.", nil},
	{"rondo_tombstones_oldest_seconds", "Age of the oldest of them, 0 where there is none.", nil},
	{"rondo_tombstones_collected_total", "Deleted and expired objects that were collected here.", nil},
	{"rondo_tombstones_refused_total", "Late versions that were refused because they had been collected.", nil},
	{"rondo_tombstones_blocked", "1 while something stops the collection of tombstones, else 0. GET /v1/tombstones says what.", nil},
	{"rondo_disk_free_bytes", "Bytes free for this node on the disk that holds its data.", nil},
	{"rondo_disk_total_bytes", "Size of the disk that holds the data.", nil},
	{"rondo_disk_reserve_bytes", "Free space below which this node refuses client writes.", nil},
	{"rondo_disk_full", "1 while this node refuses client writes because its disk is full, else 0.", nil},
}

// collectRepair sends what mends differences, and what waits to be mended. up is how long the process has been running.
func collectRepair(s sink, stats *Stats, up time.Duration) {
	seen := map[string]bool{}
	for i := range stats.Hints.Targets {
		h := &stats.Hints.Targets[i]
		if seen[h.ID] { // two figures with the same labels would fail the whole scrape
			continue
		}
		seen[h.ID] = true
		s.gauge("rondo_hints_pending", float64(h.Count), h.ID)
		s.gauge("rondo_hints_bytes", float64(h.Bytes), h.ID)
		s.gauge("rondo_hints_oldest_seconds", h.OldestS, h.ID)
		s.count("rondo_hints_delivered_total", float64(h.Delivered), h.ID)
		s.gauge("rondo_hints_divergent_partitions", float64(h.DivergentPartitions), h.ID)
	}
	s.flag("rondo_hints_paused", stats.Hints.Paused)

	r := &stats.Repair
	debt := r.OldestEqualS
	if r.NeverEqual > 0 {
		debt = max(debt, up.Seconds())
	}
	s.gauge("rondo_repair_debt_seconds", debt)
	s.gauge("rondo_repair_never_equal_partitions", float64(r.NeverEqual))
	s.gauge("rondo_unsynced_classes", float64(r.Unsynced))
	s.count("rondo_exchanges_total", float64(r.Exchanges-min(r.Failed, r.Exchanges)), "ok")
	s.count("rondo_exchanges_total", float64(r.Failed), "failed")
	s.count("rondo_exchange_objects_total", float64(r.ObjectsSent), "sent")
	s.count("rondo_exchange_objects_total", float64(r.ObjectsReceived), "received")
	s.count("rondo_exchange_bytes_total", float64(r.Bytes))
	s.count("rondo_verified_objects_total", float64(r.VerifiedObjects))
	s.count("rondo_damaged_objects_total", float64(r.DamagedObjects))
	s.count("rondo_wrong_leaves_total", float64(r.WrongLeaves))
	verified := up.Seconds()
	if r.VerifyAgeS != nil {
		verified = *r.VerifyAgeS
	}
	s.gauge("rondo_verify_age_seconds", verified)

	t := &stats.Tombstones
	s.gauge("rondo_tombstones_waiting", float64(t.Waiting))
	s.gauge("rondo_tombstones_oldest_seconds", t.OldestS)
	s.count("rondo_tombstones_collected_total", float64(t.Collected))
	s.count("rondo_tombstones_refused_total", float64(t.Refused))
	s.flag("rondo_tombstones_blocked", t.Blocker != "")

	d := &stats.Disk
	if d.TotalBytes > 0 { // else nobody knows
		s.gauge("rondo_disk_free_bytes", float64(d.FreeBytes))
		s.gauge("rondo_disk_total_bytes", float64(d.TotalBytes))
	}
	s.gauge("rondo_disk_reserve_bytes", float64(d.ReserveBytes))
	s.flag("rondo_disk_full", d.Full)
}
