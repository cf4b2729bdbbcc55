// Package ring says where keys live: a key's token, the token's partition, and the members that own the partition, in
// preference order. It is pure: no goroutine, lock, log, clock or I/O, and it does not know who is alive.
//
// Partitions are placed on a weighted consistent-hash ring of virtual nodes with bounded loads (Mirrokni, Thorup,
// Zadimoghaddam 2016: "Consistent Hashing with Bounded Loads"). The bound is a tenth, or one slot, above the fair share, which
// is by weight as far as the limits of fair.go allow. Slots that the walk around the ring can not place within it are moved
// along augmenting paths.
// A ring alone can not keep both the balance and the least movement through joins and leaves, so a layout carries its
// owners' table, and the next layout's table is a pure function of this one and the new members.
//
// What always holds, for every replica count n: the first n members of a partition's preference list are different
// members, in as many different zones as there are, at most n. All arithmetic is on integers, so that every machine
// computes the same layout from the same input.
package ring
