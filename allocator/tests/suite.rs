//! The properties that hold for every store, each written once and run over all.

mod common;

use common::{address, any, drain, kind, named, resource, seen, spec, texts, with_pools};
use poolproof_allocator::store::Store;
use poolproof_allocator::{
    Allocator, Error, ErrorKind, MAX_MS, Policy, PoolShape, Release, Repeat, Request, Resource, Strategy, Usage,
};

/// Runs each property over a fresh allocator of every store.
macro_rules! over_every_store {
    ($($property:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $property() { super::$property(poolproof_allocator::Allocator::in_memory()); })*
        }
        mod sqlite {
            $(#[test] fn $property() {
                let folder = tempfile::tempdir().unwrap();
                super::$property(poolproof_allocator::Allocator::open(folder.path().join("state.db")).unwrap());
            })*
        }
        mod naive {
            $(#[test] fn $property() {
                super::$property(poolproof_allocator::Allocator::with_store(super::common::naive::NaiveStore::default()));
            })*
        }
    };
}

over_every_store! {
    contained_the_lowest_allocatable_address_comes_first,
    contained_edge_prefixes_hand_out_what_the_standards_allow,
    contained_gateway_exclusions_edges_cannot_be_named,
    contained_ranges_overlap_touch_and_are_cut_by_exclusions,
    exclusive_a_named_address_is_taken_once,
    complete_any_never_takes_what_the_same_call_names,
    complete_several_requests_may_name_one_pool,
    atomic_a_second_request_that_fails_undoes_the_first,
    atomic_a_refused_call_inside_a_transaction_undoes_only_itself,
    atomic_rollback_undoes_every_kind_of_call,
    atomic_transactions_do_not_nest_and_do_not_end_twice,
    owned_a_stranger_changes_nothing,
    released_what_was_drained_can_be_had_again,
    released_free_space_heals_in_any_order,
    released_an_owner_gives_back_all_of_its_own,
    scoped_pools_are_disjoint_within_a_family,
    scoped_mapped_addresses_are_ipv6,
    reconfigurable_an_update_keeps_what_is_held,
    reconfigurable_a_pool_in_use_is_not_deleted,
    expiring_a_lease_is_held_while_now_is_before_its_end,
    expiring_renewal_moves_the_end_both_ways,
    expiring_times_beyond_the_limit_are_refused,
    inert_odd_names_are_data,
    total_bad_names_are_refused_everywhere,
    bounded_ten_thousand_allocations_in_the_largest_prefix,
    accounted_reset_forgets_everything,
    complete_several_addresses_come_at_once_or_not_at_all,
    contained_a_block_is_aligned_and_all_free,
    exclusive_blocks_and_single_addresses_never_overlap,
    owned_a_block_is_not_released_by_its_parts,
    complete_large_blocks_are_placed_before_small_ones,
    complete_what_is_named_is_placed_before_everything_else,
    repeated_an_owner_gets_the_same_again,
    repeated_more_than_an_owner_holds_is_something_else,
    repeated_requests_of_one_call_are_no_repeats,
    repeated_the_highest_address_is_granted_again_but_once,
    repeated_an_owner_that_may_not_repeat_is_refused,
    chosen_next_comes_round_as_late_as_can_be,
    chosen_next_comes_round_past_both_ends_of_an_address_space,
    chosen_random_is_one_of_the_free_ones,
    quarantined_nobody_gets_what_was_released_until_its_time,
    quarantined_what_a_lease_leaves_counts_from_its_end,
    quarantined_nothing_is_beyond_the_end_of_time,
    reconfigurable_a_quarantine_outlasts_an_update_and_hinders_none,
    exclusive_a_late_release_spares_the_next_allocation,
    exclusive_generations_go_on_in_a_pool_of_the_same_name,
    atomic_savepoints_nest,
    atomic_a_forgotten_savepoint_stays_forgotten,
    accounted_an_address_is_found_in_the_block_that_holds_it,
    accounted_an_owner_is_told_all_it_holds,
    accounted_pages_list_what_is_held_all_the_while_just_once,
    scoped_address_spaces_do_not_hinder_each_other,
    accounted_pools_are_told_as_they_are,
    accounted_an_audit_finds_nothing,
}

fn contained_the_lowest_allocatable_address_comes_first<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    assert_eq!(drain(&mut allocator, "p0"), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    assert_eq!(drain(&mut allocator, "p1"), ["fd00::1", "fd00::2", "fd00::3"]);
    let usage = allocator.usage("p0").unwrap();
    assert_eq!((usage.allocatable, usage.allocated), (5, 5));
}

fn contained_edge_prefixes_hand_out_what_the_standards_allow<S: Store>(mut allocator: Allocator<S>) {
    let top = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff";
    let cases = [
        ("10.0.0.0/30", vec!["10.0.0.1".into(), "10.0.0.2".into()]),
        ("10.0.0.4/31", vec!["10.0.0.4".into(), "10.0.0.5".into()]),
        ("0.0.0.0/32", vec!["0.0.0.0".into()]),
        ("255.255.255.255/32", vec!["255.255.255.255".to_owned()]),
        ("255.255.255.252/31", vec!["255.255.255.252".into(), "255.255.255.253".into()]),
        ("::/127", vec!["::".into(), "::1".into()]),
        (&format!("{top}f/128"), vec![format!("{top}f")]),
        (&format!("{top}8/126"), vec![format!("{top}9"), format!("{top}a"), format!("{top}b")]),
    ];
    for (prefix, expected) in cases {
        allocator.create_pool(prefix, &spec(prefix)).unwrap();
        assert_eq!(drain(&mut allocator, prefix), expected, "{prefix}");
        assert_eq!(allocator.usage(prefix).unwrap().allocatable, expected.len() as u128);
    }
    assert_eq!(allocator.release_owner("drain").unwrap().len(), 14);

    allocator.reset().unwrap();
    allocator.create_pool("all4", &spec("0.0.0.0/0")).unwrap();
    allocator.create_pool("all6", &spec("::/0")).unwrap();
    assert_eq!(allocator.usage("all4").unwrap().allocatable, (1 << 32) - 2);
    assert_eq!(allocator.usage("all6").unwrap().allocatable, u128::MAX);
    assert_eq!(any(&mut allocator, "a", "all4").unwrap(), "0.0.0.1");
    for _ in 0..2 {
        named(&mut allocator, "a", "all6", &format!("{top}f")).unwrap();
        named(&mut allocator, "a", "all6", "::1").unwrap();
        assert_eq!(allocator.release_owner("a").unwrap().last().unwrap().resource, resource(&format!("{top}f")));
    }
}

fn contained_gateway_exclusions_edges_cannot_be_named<S: Store>(mut allocator: Allocator<S>) {
    let pool = spec("10.0.0.0/29").with_gateway(address("10.0.0.2")).with_exclusion("10.0.0.4/31".parse().unwrap());
    allocator.create_pool("p0", &pool).unwrap();
    for text in ["10.0.0.0", "10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.7", "10.0.0.8", "9.255.255.255", "::1"] {
        assert_eq!(kind(named(&mut allocator, "a", "p0", text)), ErrorKind::Invalid, "{text}");
    }
    assert_eq!(drain(&mut allocator, "p0"), ["10.0.0.1", "10.0.0.3", "10.0.0.6"]);
    assert_eq!(kind(allocator.release("p0", address("10.0.0.2"), "drain")), ErrorKind::NotFound);
}

fn contained_ranges_overlap_touch_and_are_cut_by_exclusions<S: Store>(mut allocator: Allocator<S>) {
    let pool = ["10.0.0.20-10.0.0.22", "10.0.0.10-10.0.0.12", "10.0.0.12-10.0.0.13", "10.0.0.14"]
        .into_iter()
        .fold(spec("10.0.0.0/24"), |pool, range| pool.with_range(range.parse().unwrap()))
        .with_exclusion("10.0.0.11-10.0.0.20".parse().unwrap())
        .with_exclusion("10.0.0.12".parse().unwrap());
    allocator.create_pool("p0", &pool).unwrap();
    assert_eq!(drain(&mut allocator, "p0"), ["10.0.0.10", "10.0.0.21", "10.0.0.22"]);
    assert_eq!(allocator.usage("p0").unwrap().allocatable, 3);
    let none = spec("10.1.0.0/30").with_exclusion("10.1.0.0/30".parse().unwrap());
    allocator.create_pool("none", &none).unwrap();
    assert_eq!(kind(any(&mut allocator, "a", "none")), ErrorKind::Exhausted);
}

fn exclusive_a_named_address_is_taken_once<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    named(&mut allocator, "a", "p0", "10.0.0.4").unwrap();
    assert_eq!(kind(named(&mut allocator, "a", "p0", "10.0.0.4")), ErrorKind::Conflict);
    assert_eq!(kind(named(&mut allocator, "b", "p0", "10.0.0.4")), ErrorKind::Conflict);
    let twice = [Request::named("p0", address("10.0.0.5")); 2];
    assert_eq!(kind(allocator.allocate("a", &twice, None)), ErrorKind::Conflict);
    assert_eq!(allocator.usage("p0").unwrap().allocated, 1);
}

fn complete_any_never_takes_what_the_same_call_names<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    let requests = [Request::any("p0"), Request::named("p0", address("10.0.0.2")), Request::any("p0")];
    let granted = allocator.allocate("a", &requests, None).unwrap();
    assert_eq!(texts(&granted), ["10.0.0.3", "10.0.0.2", "10.0.0.4"]);
}

fn complete_several_requests_may_name_one_pool<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    assert_eq!(allocator.allocate("a", &[Request::any("p1"); 3], None).unwrap().grants.len(), 3);
    allocator.release_owner("a").unwrap();
    assert_eq!(kind(allocator.allocate("a", &[Request::any("p1"); 4], None)), ErrorKind::Exhausted);
    assert_eq!(allocator.usage("p1").unwrap().allocated, 0);
    assert_eq!(kind(allocator.allocate("a", &[], None)), ErrorKind::Invalid);
}

fn atomic_a_second_request_that_fails_undoes_the_first<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    drain(&mut allocator, "p1");
    let before = seen(&mut allocator);
    for (second, expected) in [
        (Request::any("p1"), ErrorKind::Exhausted),
        (Request::any("absent"), ErrorKind::NotFound),
        (Request::named("p1", address("fd00::1")), ErrorKind::Conflict),
        (Request::named("p1", address("fd00::")), ErrorKind::Invalid),
    ] {
        for first in [Request::any("p0"), Request::named("p0", address("10.0.0.4"))] {
            assert_eq!(kind(allocator.allocate("a", &[first, second], Some(5))), expected);
            assert_eq!(seen(&mut allocator), before);
        }
    }
    assert_eq!(drain(&mut allocator, "p0").len(), 5);
}

fn atomic_a_refused_call_inside_a_transaction_undoes_only_itself<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    allocator.begin().unwrap();
    any(&mut allocator, "a", "p0").unwrap();
    drain(&mut allocator, "p1");
    assert_eq!(kind(allocator.allocate("b", &[Request::any("p0"), Request::any("p1")], None)), ErrorKind::Exhausted);
    assert_eq!(any(&mut allocator, "c", "p0").unwrap(), "10.0.0.3");
    let inside = seen(&mut allocator);
    allocator.commit().unwrap();
    assert_eq!(seen(&mut allocator), inside);
}

fn atomic_rollback_undoes_every_kind_of_call<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    allocator.allocate("a", &[Request::any("p0"), Request::any("p0"), Request::any("p1")], Some(10)).unwrap();
    let before = seen(&mut allocator);
    allocator.begin().unwrap();
    allocator.renew("p0", address("10.0.0.2"), "a", 99).unwrap();
    allocator.release("p0", address("10.0.0.3"), "a").unwrap();
    named(&mut allocator, "b", "p0", "10.0.0.5").unwrap();
    allocator.update_pool("p0", &PoolShape { gateway: Some(address("10.0.0.6")), ..PoolShape::default() }).unwrap();
    assert_eq!(named(&mut allocator, "b", "p0", "10.0.0.1").unwrap(), "10.0.0.1");
    allocator.create_pool("p2", &spec("10.2.0.0/24")).unwrap();
    any(&mut allocator, "b", "p2").unwrap();
    allocator.release_owner("a").unwrap();
    allocator.delete_pool("p1").unwrap();
    allocator.create_pool("p1", &spec("fd00::/120")).unwrap();
    allocator.rollback().unwrap();
    assert_eq!(seen(&mut allocator), before);
    assert_eq!(kind(allocator.usage("p2")), ErrorKind::NotFound);
    assert_eq!(allocator.advance_to(10).unwrap(), 10);
    assert_eq!(drain(&mut allocator, "p0").len(), 5);
    assert_eq!(drain(&mut allocator, "p1").len(), 3);
}

fn atomic_transactions_do_not_nest_and_do_not_end_twice<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    assert_eq!(kind(allocator.commit()), ErrorKind::Invalid);
    assert_eq!(kind(allocator.rollback()), ErrorKind::Invalid);
    allocator.begin().unwrap();
    assert_eq!(kind(allocator.begin()), ErrorKind::Invalid);
    assert_eq!(kind(allocator.advance_to(1)), ErrorKind::Invalid);
    any(&mut allocator, "a", "p0").unwrap();
    allocator.commit().unwrap();
    assert_eq!(kind(allocator.commit()), ErrorKind::Invalid);
    assert_eq!(allocator.list(Some("p0")).unwrap().len(), 1);
}

fn owned_a_stranger_changes_nothing<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    allocator.allocate("a", &[Request::any("p0")], Some(10)).unwrap();
    let before = seen(&mut allocator);
    let held = address("10.0.0.2");
    for stranger in ["b", "A", "a ", "%", "_"] {
        assert_eq!(kind(allocator.release("p0", held, stranger)), ErrorKind::NotOwner);
        assert_eq!(kind(allocator.renew("p0", held, stranger, 5)), ErrorKind::NotOwner);
        assert_eq!(allocator.release_owner(stranger).unwrap(), []);
    }
    assert_eq!(kind(allocator.release("p0", address("10.0.0.3"), "a")), ErrorKind::NotFound);
    assert_eq!(kind(allocator.release("p1", held, "a")), ErrorKind::Invalid);
    assert_eq!(kind(allocator.release("absent", held, "a")), ErrorKind::NotFound);
    assert_eq!(seen(&mut allocator), before);
}

fn released_what_was_drained_can_be_had_again<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    let drained = drain(&mut allocator, "p0");
    allocator.release("p0", address("10.0.0.4"), "drain").unwrap();
    assert_eq!(kind(allocator.release("p0", address("10.0.0.4"), "drain")), ErrorKind::NotFound);
    assert_eq!(any(&mut allocator, "b", "p0").unwrap(), "10.0.0.4");
    allocator.release_owner("b").unwrap();
    allocator.release_owner("drain").unwrap();
    assert_eq!(drain(&mut allocator, "p0"), drained);
}

fn released_free_space_heals_in_any_order<S: Store>(mut allocator: Allocator<S>) {
    allocator.create_pool("p0", &spec("10.0.0.0/28")).unwrap();
    let drained = drain(&mut allocator, "p0");
    for step in [3, 5, 9, 11] {
        for round in 0..drained.len() {
            let next = &drained[round * step % drained.len()];
            // Steps that share a factor with the length come round early; the rest is freed below.
            let _ = allocator.release("p0", address(next), "drain");
        }
        allocator.release_owner("drain").unwrap();
        assert_eq!(drain(&mut allocator, "p0"), drained);
    }
}

fn released_an_owner_gives_back_all_of_its_own<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    let requests = [Request::any("p1"), Request::any("p0"), Request::any("p0")];
    allocator.allocate("a", &requests, None).unwrap();
    any(&mut allocator, "b", "p0").unwrap();
    let released = allocator.release_owner("a").unwrap();
    let released: Vec<_> = released.iter().map(|one| (&*one.pool, one.resource.to_string())).collect();
    let expected = [("p0", "10.0.0.2"), ("p0", "10.0.0.3"), ("p1", "fd00::1")];
    assert_eq!(released, expected.map(|(pool, address)| (pool, address.to_owned())));
    assert_eq!(allocator.release_owner("a").unwrap(), []);
    assert_eq!(allocator.list(None).unwrap().len(), 1);
}

fn scoped_pools_are_disjoint_within_a_family<S: Store>(mut allocator: Allocator<S>) {
    allocator.create_pool("p0", &spec("10.0.0.0/24")).unwrap();
    allocator.create_pool("all6", &spec("::/0")).unwrap();
    for prefix in
        ["10.0.0.0/24", "10.0.0.0/25", "10.0.0.128/25", "10.0.0.255/32", "10.0.0.0/8", "0.0.0.0/0", "fd00::/8"]
    {
        assert_eq!(kind(allocator.create_pool("p1", &spec(prefix))), ErrorKind::Conflict, "{prefix}");
    }
    assert_eq!(kind(allocator.create_pool("p0", &spec("10.9.0.0/24"))), ErrorKind::Conflict);
    allocator.create_pool("above", &spec("10.0.1.0/24")).unwrap();
    allocator.create_pool("below", &spec("9.255.255.0/24")).unwrap();
    allocator.delete_pool("p0").unwrap();
    allocator.create_pool("p0", &spec("10.0.0.0/25")).unwrap();
    let mut host_bits = spec("10.7.0.0/24");
    host_bits.prefix = "10.7.0.1/24".parse().unwrap();
    assert_eq!(kind(allocator.create_pool("p1", &host_bits)), ErrorKind::Invalid);
}

fn scoped_mapped_addresses_are_ipv6<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    assert_eq!(kind(named(&mut allocator, "a", "p0", "::ffff:10.0.0.5")), ErrorKind::Invalid);
    allocator.create_pool("mapped", &spec("::ffff:10.0.0.0/125")).unwrap();
    assert_eq!(named(&mut allocator, "a", "mapped", "::ffff:10.0.0.5").unwrap(), "::ffff:10.0.0.5");
    assert_eq!(named(&mut allocator, "a", "p0", "10.0.0.5").unwrap(), "10.0.0.5");
    assert_eq!(kind(allocator.release("p0", address("::ffff:10.0.0.5"), "a")), ErrorKind::Invalid);
}

fn reconfigurable_an_update_keeps_what_is_held<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    allocator.allocate("a", &[Request::named("p0", address("10.0.0.4"))], Some(10)).unwrap();
    let shape = |range: &str| PoolShape { ranges: vec![range.parse().unwrap()], ..PoolShape::default() };
    let before = seen(&mut allocator);
    assert_eq!(kind(allocator.update_pool("p0", &shape("10.0.0.5-10.0.0.6"))), ErrorKind::InUse);
    let gateway = PoolShape { gateway: Some(address("10.0.0.4")), ..PoolShape::default() };
    assert_eq!(kind(allocator.update_pool("p0", &gateway)), ErrorKind::InUse);
    assert_eq!(kind(allocator.update_pool("p0", &shape("10.0.0.5-10.0.0.8"))), ErrorKind::Invalid);
    assert_eq!(kind(allocator.update_pool("absent", &PoolShape::default())), ErrorKind::NotFound);
    assert_eq!(seen(&mut allocator), before);
    allocator.update_pool("p0", &shape("10.0.0.3-10.0.0.5")).unwrap();
    assert_eq!(drain(&mut allocator, "p0"), ["10.0.0.3", "10.0.0.5"]);
    assert_eq!(allocator.usage("p0").unwrap().allocatable, 3);
    allocator.release_owner("drain").unwrap();
    // An expired lease is no reason to refuse.
    allocator.advance_to(10).unwrap();
    allocator.update_pool("p0", &shape("10.0.0.1")).unwrap();
    assert_eq!(drain(&mut allocator, "p0"), ["10.0.0.1"]);
}

fn reconfigurable_a_pool_in_use_is_not_deleted<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    allocator.allocate("a", &[Request::any("p0")], Some(10)).unwrap();
    assert_eq!(kind(allocator.delete_pool("p0")), ErrorKind::InUse);
    assert_eq!(kind(allocator.delete_pool("absent")), ErrorKind::NotFound);
    allocator.advance_to(10).unwrap();
    allocator.delete_pool("p0").unwrap();
    assert_eq!(kind(any(&mut allocator, "a", "p0")), ErrorKind::NotFound);
    allocator.create_pool("p0", &spec("10.0.0.0/30")).unwrap();
    assert_eq!(drain(&mut allocator, "p0").len(), 2);
}

fn expiring_a_lease_is_held_while_now_is_before_its_end<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    let granted = allocator.allocate("a", &[Request::any("p0")], Some(1000)).unwrap();
    assert_eq!(granted.expires_ms, Some(1000));
    any(&mut allocator, "forever", "p0").unwrap();
    assert_eq!(allocator.advance_to(999).unwrap(), 999);
    assert_eq!(allocator.usage("p0").unwrap().allocated, 2);
    assert_eq!(allocator.advance_to(1000).unwrap(), 1000);
    assert_eq!(kind(allocator.renew("p0", address("10.0.0.2"), "a", 5)), ErrorKind::NotFound);
    assert_eq!(kind(allocator.release("p0", address("10.0.0.2"), "a")), ErrorKind::NotFound);
    assert_eq!(allocator.list(None).unwrap().len(), 1);
    assert_eq!(any(&mut allocator, "b", "p0").unwrap(), "10.0.0.2");
    // A clock that goes back takes nothing back.
    for earlier_ms in [1, 999, 1000] {
        assert_eq!(allocator.advance_to(earlier_ms).unwrap(), 1000);
    }
    assert_eq!(allocator.now_ms().unwrap(), 1000);
}

fn expiring_renewal_moves_the_end_both_ways<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    let held = address("10.0.0.2");
    allocator.allocate("a", &[Request::any("p0")], Some(10)).unwrap();
    allocator.advance_to(5).unwrap();
    assert_eq!(allocator.renew("p0", held, "a", 10).unwrap(), 15);
    allocator.advance_to(10).unwrap();
    assert_eq!(allocator.renew("p0", held, "a", 1).unwrap(), 11);
    allocator.advance_to(11).unwrap();
    assert_eq!(allocator.list(None).unwrap(), []);
    any(&mut allocator, "a", "p0").unwrap();
    assert_eq!(allocator.renew("p0", held, "a", 4).unwrap(), 15);
    assert_eq!(kind(allocator.renew("p0", held, "a", 0)), ErrorKind::Invalid);
    allocator.advance_to(MAX_MS).unwrap();
    assert_eq!(allocator.list(None).unwrap(), []);
}

fn expiring_times_beyond_the_limit_are_refused<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    let request = [Request::any("p0")];
    for ttl_ms in [0, MAX_MS + 1, u64::MAX] {
        assert_eq!(kind(allocator.allocate("a", &request, Some(ttl_ms))), ErrorKind::Invalid);
    }
    assert_eq!(allocator.allocate("a", &request, Some(MAX_MS)).unwrap().expires_ms, Some(MAX_MS));
    assert_eq!(kind(allocator.advance_to(MAX_MS + 1)), ErrorKind::Invalid);
    assert_eq!(allocator.advance_to(1).unwrap(), 1);
    assert_eq!(kind(allocator.allocate("a", &request, Some(MAX_MS))), ErrorKind::Invalid);
    assert_eq!(kind(allocator.renew("p0", address("10.0.0.2"), "a", MAX_MS)), ErrorKind::Invalid);
    assert_eq!(allocator.usage("p0").unwrap().allocated, 1);
}

fn inert_odd_names_are_data<S: Store>(mut allocator: Allocator<S>) {
    let longest = "x".repeat(255);
    let names =
        ["' or 1=1 --", "%", "_", "\"; drop table pool;--", "🦀", "é", "e\u{301}", "\n\t", " ", "?1", "null", &longest];
    for (index, name) in names.iter().enumerate() {
        allocator.create_pool(name, &spec(&format!("10.{index}.0.0/30"))).unwrap();
        assert_eq!(any(&mut allocator, name, name).unwrap(), format!("10.{index}.0.1"));
    }
    for (index, name) in names.iter().enumerate() {
        assert_eq!(allocator.list(Some(name)).unwrap()[0].owner.as_ref(), *name);
        let released = allocator.release_owner(name).unwrap();
        assert_eq!((released.len(), released[0].pool.as_ref()), (1, *name));
        assert_eq!(allocator.list(None).unwrap().len(), names.len() - index - 1);
    }
}

fn total_bad_names_are_refused_everywhere<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    let before = seen(&mut allocator);
    let held = address("10.0.0.2");
    for name in ["", "a\0b", "\0", &"x".repeat(256), &"é".repeat(128)] {
        assert_eq!(kind(allocator.create_pool(name, &spec("10.9.0.0/24"))), ErrorKind::Invalid);
        assert_eq!(kind(allocator.update_pool(name, &PoolShape::default())), ErrorKind::Invalid);
        assert_eq!(kind(allocator.delete_pool(name)), ErrorKind::Invalid);
        assert_eq!(kind(any(&mut allocator, name, "p0")), ErrorKind::Invalid);
        assert_eq!(kind(any(&mut allocator, "a", name)), ErrorKind::Invalid);
        assert_eq!(kind(allocator.release(name, held, "a")), ErrorKind::Invalid);
        assert_eq!(kind(allocator.release("p0", held, name)), ErrorKind::Invalid);
        assert_eq!(kind(allocator.release_owner(name)), ErrorKind::Invalid);
        assert_eq!(kind(allocator.renew("p0", held, name, 1)), ErrorKind::Invalid);
        assert_eq!(kind(allocator.list(Some(name))), ErrorKind::Invalid);
        assert_eq!(kind(allocator.list_page(Some(name), None, 1)), ErrorKind::Invalid);
        assert_eq!(kind(allocator.usage(name)), ErrorKind::Invalid);
        assert_eq!(kind(allocator.pool(name)), ErrorKind::Invalid);
        assert_eq!(kind(allocator.find(name, held)), ErrorKind::Invalid);
        assert_eq!(kind(allocator.find_owner(name)), ErrorKind::Invalid);
    }
    assert_eq!(seen(&mut allocator), before);
}

fn bounded_ten_thousand_allocations_in_the_largest_prefix<S: Store>(mut allocator: Allocator<S>) {
    allocator.create_pool("all6", &spec("::/0")).unwrap();
    allocator.begin().unwrap();
    for value in 1..=10_000_u128 {
        let granted = allocator.allocate("a", &[Request::any("all6")], Some(10)).unwrap();
        assert_eq!(granted.address().unwrap(), std::net::Ipv6Addr::from_bits(value));
    }
    allocator.commit().unwrap();
    assert_eq!(kind(named(&mut allocator, "b", "all6", "::2710")), ErrorKind::Conflict);
    allocator.advance_to(10).unwrap();
    assert_eq!(any(&mut allocator, "b", "all6").unwrap(), "::1");
    assert_eq!(allocator.usage("all6").unwrap().allocated, 1);
}

fn accounted_reset_forgets_everything<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    allocator.allocate("a", &[Request::any("p0")], Some(10)).unwrap();
    allocator.advance_to(5).unwrap();
    allocator.begin().unwrap();
    any(&mut allocator, "a", "p0").unwrap();
    allocator.reset().unwrap();
    assert_eq!(kind(allocator.commit()), ErrorKind::Invalid);
    assert_eq!(seen(&mut allocator), (vec![], vec![], 0));
    let mut allocator = with_pools(allocator);
    assert_eq!(drain(&mut allocator, "p0").len(), 5);
}

/// A pool of 10.0.0.0/28, which hands out .1 to .14, with a policy.
fn with_policy<S: Store>(mut allocator: Allocator<S>, policy: Policy) -> Allocator<S> {
    allocator.create_pool("p0", &spec("10.0.0.0/28").with_policy(policy)).unwrap();
    allocator
}

fn strategy(strategy: Strategy) -> Policy {
    Policy { strategy, ..Policy::default() }
}

fn repeat(repeat: Repeat) -> Policy {
    Policy { repeat, ..Policy::default() }
}

fn quarantine(quarantine_ms: u64) -> Policy {
    Policy { quarantine_ms, ..Policy::default() }
}

/// Allocates what the requests ask for, without end.
fn all<S: Store>(
    allocator: &mut Allocator<S>,
    owner: &str,
    requests: &[Request<'_>],
) -> poolproof_allocator::Result<Vec<String>> {
    Ok(texts(&allocator.allocate(owner, requests, None)?))
}

/// Who holds what, as text.
fn held<S: Store>(allocator: &mut Allocator<S>) -> Vec<String> {
    let listed = allocator.list(None).unwrap();
    listed.iter().map(|one| format!("{} {} {}", one.pool, one.resource, one.owner)).collect()
}

fn complete_several_addresses_come_at_once_or_not_at_all<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    let requests = [Request::several("p0", 2), Request::any("p1"), Request::several("p0", 3)];
    let expected = ["10.0.0.2", "10.0.0.3", "fd00::1", "10.0.0.4", "10.0.0.5", "10.0.0.6"];
    assert_eq!(all(&mut allocator, "a", &requests).unwrap(), expected);
    let before = seen(&mut allocator);
    for count in [3, u32::MAX] {
        assert_eq!(kind(all(&mut allocator, "b", &[Request::several("p1", count)])), ErrorKind::Exhausted);
    }
    assert_eq!(kind(all(&mut allocator, "b", &[Request::several("p1", 0)])), ErrorKind::Invalid);
    assert_eq!(seen(&mut allocator), before);
    assert_eq!(all(&mut allocator, "b", &[Request::several("p1", 2)]).unwrap(), ["fd00::2", "fd00::3"]);
}

fn contained_a_block_is_aligned_and_all_free<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, Policy::default());
    named(&mut allocator, "a", "p0", "10.0.0.5").unwrap();
    let block = |length| [Request::block("p0", length)];
    // .0 is the network, .5 is held, .15 is the broadcast address.
    assert_eq!(all(&mut allocator, "a", &block(30)).unwrap(), ["10.0.0.8/30"]);
    assert_eq!(kind(all(&mut allocator, "a", &block(30))), ErrorKind::Exhausted);
    assert_eq!(all(&mut allocator, "a", &block(31)).unwrap(), ["10.0.0.2/31"]);
    assert_eq!(all(&mut allocator, "a", &block(32)).unwrap(), ["10.0.0.1/32"]);
    assert_eq!(allocator.usage("p0").unwrap().allocated, 8);
    for too_large in [29, 28, 27, 0] {
        assert_eq!(kind(all(&mut allocator, "a", &block(too_large))), ErrorKind::Exhausted, "{too_large}");
    }
    assert_eq!(kind(all(&mut allocator, "a", &block(33))), ErrorKind::Invalid);
    allocator.create_pool("all6", &spec("::/0")).unwrap();
    assert_eq!(all(&mut allocator, "a", &[Request::block("all6", 1)]).unwrap(), ["8000::/1"]);
    assert_eq!(allocator.usage("all6").unwrap().allocated, 1 << 127);
    assert_eq!(kind(all(&mut allocator, "a", &[Request::block("all6", 129)])), ErrorKind::Invalid);
}

fn exclusive_blocks_and_single_addresses_never_overlap<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, Policy::default());
    named(&mut allocator, "a", "p0", "10.0.0.5").unwrap();
    named(&mut allocator, "a", "p0", "10.0.0.8/30").unwrap();
    for taken in ["10.0.0.4/30", "10.0.0.5/32", "10.0.0.8", "10.0.0.11", "10.0.0.8/31", "10.0.0.10/31", "10.0.0.8/30"] {
        for owner in ["a", "b"] {
            assert_eq!(kind(named(&mut allocator, owner, "p0", taken)), ErrorKind::Conflict, "{taken}");
        }
    }
    for reserved in ["10.0.0.0/30", "10.0.0.0/29", "10.0.0.12/30", "10.0.0.8/29", "10.0.0.0/28", "10.0.0.0/27"] {
        assert_eq!(kind(named(&mut allocator, "b", "p0", reserved)), ErrorKind::Invalid, "{reserved}");
    }
    let host_bits = [Request::named("p0", Resource::Block("10.0.0.1/31".parse().unwrap()))];
    assert_eq!(kind(allocator.allocate("b", &host_bits, None)), ErrorKind::Invalid);
    let left = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.6", "10.0.0.7"];
    assert_eq!(drain(&mut allocator, "p0"), [&left[..], &["10.0.0.12", "10.0.0.13", "10.0.0.14"]].concat());
}

fn owned_a_block_is_not_released_by_its_parts<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, Policy::default());
    named(&mut allocator, "a", "p0", "10.0.0.4/30").unwrap();
    named(&mut allocator, "a", "p0", "10.0.0.9").unwrap();
    let before = seen(&mut allocator);
    for other in ["10.0.0.4", "10.0.0.6", "10.0.0.4/31", "10.0.0.4/32", "10.0.0.0/29", "10.0.0.9/32", "10.0.0.8/31"] {
        assert_eq!(kind(allocator.release("p0", resource(other), "a")), ErrorKind::NotFound, "{other}");
        assert_eq!(kind(allocator.renew("p0", resource(other), "a", 5)), ErrorKind::NotFound, "{other}");
    }
    assert_eq!(kind(allocator.release("p0", resource("10.0.0.4/30"), "b")), ErrorKind::NotOwner);
    assert_eq!(seen(&mut allocator), before);
    assert_eq!(allocator.renew("p0", resource("10.0.0.4/30"), "a", 5).unwrap(), 5);
    allocator.release("p0", resource("10.0.0.4/30"), "a").unwrap();
    assert_eq!(held(&mut allocator), ["p0 10.0.0.9 a"]);
}

fn complete_large_blocks_are_placed_before_small_ones<S: Store>(mut allocator: Allocator<S>) {
    for (pool, strategy) in [("lowest", Strategy::Lowest), ("next", Strategy::Next), ("random", Strategy::Random)] {
        let eight = spec("10.0.0.0/27").with_range("10.0.0.8-10.0.0.15".parse().unwrap());
        let policy = Policy { strategy, ..Policy::default() };
        allocator.create_pool(pool, &eight.with_space(pool).with_policy(policy)).unwrap();
        let [any, two, four] = [Request::any(pool), Request::block(pool, 31), Request::block(pool, 30)];
        assert_eq!(kind(all(&mut allocator, "a", &[any, two, any, four, any])), ErrorKind::Exhausted);
        // They fill the pool to the last address, and are answered in the order of the requests.
        let granted = all(&mut allocator, "a", &[any, two, any, four]).unwrap();
        let is_in_order = [false, true, false, true].into_iter().eq(granted.iter().map(|one| one.contains('/')));
        assert!(is_in_order && granted[1].ends_with("/31") && granted[3].ends_with("/30"), "{granted:?}");
        assert_eq!(allocator.usage(pool).unwrap().free(), 0);
    }
    let lowest: Vec<_> = allocator.list(Some("lowest")).unwrap().iter().map(|one| one.resource.to_string()).collect();
    assert_eq!(lowest, ["10.0.0.8/30", "10.0.0.12/31", "10.0.0.14", "10.0.0.15"]);
}

fn complete_what_is_named_is_placed_before_everything_else<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, Policy::default());
    let requests = [Request::any("p0"), Request::block("p0", 30), Request::named("p0", resource("10.0.0.4/31"))];
    assert_eq!(all(&mut allocator, "a", &requests).unwrap(), ["10.0.0.1", "10.0.0.8/30", "10.0.0.4/31"]);
}

fn repeated_an_owner_gets_the_same_again<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, repeat(Repeat::Same));
    named(&mut allocator, "b", "p0", "10.0.0.1").unwrap();
    let first = allocator.allocate("a", &[Request::any("p0")], Some(5)).unwrap();
    let block = allocator.allocate("a", &[Request::block("p0", 30)], Some(5)).unwrap();
    allocator.advance_to(1).unwrap();
    // The end is the new one, the allocation the old one.
    let again = allocator.allocate("a", &[Request::block("p0", 30), Request::any("p0")], Some(5)).unwrap();
    assert_eq!(again.grants.as_slice(), [block.grants[0], first.grants[0]]);
    assert_eq!(again.expires_ms, Some(6));
    let by_name = allocator.allocate("a", &[Request::named("p0", first.grants[0].resource)], None).unwrap();
    assert_eq!(by_name.grants, first.grants);
    assert_eq!(kind(named(&mut allocator, "b", "p0", "10.0.0.2")), ErrorKind::Conflict);
    allocator.advance_to(6).unwrap();
    assert_eq!(held(&mut allocator), ["p0 10.0.0.1 b", "p0 10.0.0.2 a"]);
    assert_eq!(any(&mut allocator, "c", "p0").unwrap(), "10.0.0.3");
}

fn repeated_more_than_an_owner_holds_is_something_else<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, repeat(Repeat::Same));
    for text in ["10.0.0.9", "10.0.0.2", "10.0.0.4/31", "10.0.0.6/32"] {
        named(&mut allocator, "a", "p0", text).unwrap();
    }
    let requests = [Request::several("p0", 3), Request::block("p0", 31), Request::block("p0", 31)];
    let expected = ["10.0.0.2", "10.0.0.9", "10.0.0.1", "10.0.0.4/31", "10.0.0.10/31"];
    assert_eq!(all(&mut allocator, "a", &requests).unwrap(), expected);
    assert_eq!(all(&mut allocator, "a", &[Request::several("p0", 3)]).unwrap(), ["10.0.0.1", "10.0.0.2", "10.0.0.9"]);
    assert_eq!(allocator.usage("p0").unwrap().allocated, 3 + 2 + 2 + 1);
}

fn repeated_requests_of_one_call_are_no_repeats<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, repeat(Repeat::Same));
    let by_name = Request::named("p0", address("10.0.0.1"));
    assert_eq!(kind(all(&mut allocator, "a", &[by_name, by_name])), ErrorKind::Conflict);
    assert_eq!(all(&mut allocator, "a", &[Request::any("p0"), by_name]).unwrap(), ["10.0.0.2", "10.0.0.1"]);
    assert_eq!(kind(all(&mut allocator, "a", &[by_name, by_name])), ErrorKind::Conflict);
    assert_eq!(all(&mut allocator, "a", &[Request::any("p0"), by_name]).unwrap(), ["10.0.0.2", "10.0.0.1"]);
    let requests = [Request::any("p0"), Request::any("p0"), by_name];
    assert_eq!(all(&mut allocator, "a", &requests).unwrap(), ["10.0.0.2", "10.0.0.3", "10.0.0.1"]);
}

fn repeated_the_highest_address_is_granted_again_but_once<S: Store>(mut allocator: Allocator<S>) {
    let top = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff";
    for (name, prefix, highest, lowest) in [
        ("p4", "255.255.255.254/31".to_owned(), "255.255.255.255".to_owned(), "255.255.255.254".to_owned()),
        ("p6", format!("{top}e/127"), format!("{top}f"), format!("{top}e")),
    ] {
        allocator.create_pool(name, &spec(&prefix).with_policy(repeat(Repeat::Same))).unwrap();
        named(&mut allocator, "a", name, &highest).unwrap();
        assert_eq!(all(&mut allocator, "a", &[Request::several(name, 2)]).unwrap(), [highest, lowest]);
        assert_eq!(kind(all(&mut allocator, "a", &[Request::several(name, 3)])), ErrorKind::Exhausted);
    }
}

fn repeated_an_owner_that_may_not_repeat_is_refused<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, repeat(Repeat::Conflict));
    let both = [Request::any("p0"), Request::block("p0", 31)];
    assert_eq!(all(&mut allocator, "a", &both).unwrap(), ["10.0.0.1", "10.0.0.2/31"]);
    let before = seen(&mut allocator);
    let requests = [Request::any("p0"), Request::named("p0", address("10.0.0.9")), Request::block("p0", 32)];
    for request in requests {
        assert_eq!(kind(all(&mut allocator, "a", &[request])), ErrorKind::Conflict);
    }
    assert_eq!(seen(&mut allocator), before);
    assert_eq!(any(&mut allocator, "b", "p0").unwrap(), "10.0.0.4");
    named(&mut allocator, "c", "p0", "10.0.0.8/30").unwrap();
    for (owner, request) in ["b", "c"].into_iter().flat_map(|owner| requests.map(|request| (owner, request))) {
        assert_eq!(kind(all(&mut allocator, owner, &[request])), ErrorKind::Conflict, "{owner} {request:?}");
    }
    allocator.release_owner("a").unwrap();
    assert_eq!(any(&mut allocator, "a", "p0").unwrap(), "10.0.0.1");
}

fn chosen_next_comes_round_as_late_as_can_be<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, strategy(Strategy::Next));
    for expected in (1..=14).chain(1..=14) {
        assert_eq!(any(&mut allocator, "a", "p0").unwrap(), format!("10.0.0.{expected}"));
        allocator.release_owner("a").unwrap();
    }
    // What is named, refused or undone is not chosen; what is held is passed over.
    named(&mut allocator, "b", "p0", "10.0.0.1").unwrap();
    allocator.begin().unwrap();
    all(&mut allocator, "b", &[Request::several("p0", 5)]).unwrap();
    allocator.rollback().unwrap();
    let too_much = [Request::several("p0", 2), Request::several("p0", 12)];
    assert_eq!(kind(all(&mut allocator, "b", &too_much)), ErrorKind::Exhausted);
    assert_eq!(all(&mut allocator, "b", &[Request::block("p0", 30)]).unwrap(), ["10.0.0.4/30"]);
    assert_eq!(all(&mut allocator, "b", &[Request::several("p0", 2)]).unwrap(), ["10.0.0.8", "10.0.0.9"]);
    named(&mut allocator, "b", "p0", "10.0.0.12").unwrap();
    assert_eq!(any(&mut allocator, "b", "p0").unwrap(), "10.0.0.10");
    allocator.release_owner("b").unwrap();
    assert_eq!(all(&mut allocator, "b", &[Request::block("p0", 31)]).unwrap(), ["10.0.0.12/31"]);
    assert_eq!(all(&mut allocator, "b", &[Request::block("p0", 30)]).unwrap(), ["10.0.0.4/30"]);
}

fn chosen_next_comes_round_past_both_ends_of_an_address_space<S: Store>(mut allocator: Allocator<S>) {
    let top = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff";
    for (prefix, expected) in [
        ("255.255.255.254/31".to_owned(), ["255.255.255.254".to_owned(), "255.255.255.255".to_owned()]),
        ("0.0.0.0/31".to_owned(), ["0.0.0.0".to_owned(), "0.0.0.1".to_owned()]),
        ("::/127".to_owned(), ["::".to_owned(), "::1".to_owned()]),
        (format!("{top}e/127"), [format!("{top}e"), format!("{top}f")]),
    ] {
        allocator.create_pool(&prefix, &spec(&prefix).with_policy(strategy(Strategy::Next))).unwrap();
        for expected in expected.iter().chain(&expected) {
            assert_eq!(any(&mut allocator, "a", &prefix).unwrap(), *expected);
            allocator.release_owner("a").unwrap();
        }
        assert_eq!(all(&mut allocator, "a", &[Request::several(&prefix, 2)]).unwrap(), expected);
    }
}

fn chosen_random_is_one_of_the_free_ones<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, strategy(Strategy::Random));
    named(&mut allocator, "b", "p0", "10.0.0.5").unwrap();
    for _ in 0..20 {
        let mut drained = drain(&mut allocator, "p0");
        drained.sort_by_key(|text| address(text));
        let free = [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14];
        assert_eq!(drained, free.map(|last| format!("10.0.0.{last}")));
        allocator.release_owner("drain").unwrap();
        let block = all(&mut allocator, "drain", &[Request::block("p0", 31)]).unwrap();
        assert!(["2", "6", "8", "10", "12"].map(|last| format!("10.0.0.{last}/31")).contains(&block[0]), "{block:?}");
        allocator.release_owner("drain").unwrap();
    }
}

fn quarantined_nobody_gets_what_was_released_until_its_time<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, quarantine(10));
    named(&mut allocator, "a", "p0", "10.0.0.1").unwrap();
    named(&mut allocator, "a", "p0", "10.0.0.4/30").unwrap();
    allocator.advance_to(5).unwrap();
    allocator.release("p0", address("10.0.0.1"), "a").unwrap();
    allocator.release_owner("a").unwrap();
    let usage = Usage { allocatable: 14, allocated: 0, quarantined: 5 };
    assert_eq!(allocator.usage("p0").unwrap(), usage);
    assert_eq!(usage.free(), 9);
    for (owner, text) in [("a", "10.0.0.1"), ("b", "10.0.0.4/30"), ("b", "10.0.0.6"), ("b", "10.0.0.0/29")] {
        let expected = if text == "10.0.0.0/29" { ErrorKind::Invalid } else { ErrorKind::Conflict };
        assert_eq!(kind(named(&mut allocator, owner, "p0", text)), expected, "{text}");
    }
    assert_eq!(kind(allocator.release("p0", address("10.0.0.1"), "a")), ErrorKind::NotFound);
    assert_eq!(allocator.find("p0", address("10.0.0.1")).unwrap(), None);
    assert_eq!(held(&mut allocator), [""; 0]);
    assert_eq!(any(&mut allocator, "a", "p0").unwrap(), "10.0.0.2");
    allocator.advance_to(14).unwrap();
    assert_eq!(all(&mut allocator, "b", &[Request::several("p0", 2)]).unwrap(), ["10.0.0.3", "10.0.0.8"]);
    allocator.advance_to(15).unwrap();
    assert_eq!(allocator.usage("p0").unwrap().quarantined, 0);
    assert_eq!(all(&mut allocator, "b", &[Request::several("p0", 2)]).unwrap(), ["10.0.0.1", "10.0.0.4"]);
    seen(&mut allocator);
}

fn quarantined_what_a_lease_leaves_counts_from_its_end<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, quarantine(10));
    let lease = |allocator: &mut Allocator<S>, ttl_ms| {
        allocator.allocate("a", &[Request::any("p0")], Some(ttl_ms)).unwrap().address().unwrap().to_string()
    };
    assert_eq!([5, 8].map(|ttl_ms| lease(&mut allocator, ttl_ms)), ["10.0.0.1", "10.0.0.2"]);
    allocator.advance_to(7).unwrap();
    assert_eq!(allocator.usage("p0").unwrap(), Usage { allocatable: 14, allocated: 1, quarantined: 1 });
    // By now the first quarantine is over, and the second one began in the meantime.
    allocator.advance_to(15).unwrap();
    assert_eq!(allocator.usage("p0").unwrap(), Usage { allocatable: 14, allocated: 0, quarantined: 1 });
    assert_eq!(lease(&mut allocator, 1), "10.0.0.1");
    allocator.advance_to(18).unwrap();
    assert_eq!(lease(&mut allocator, 1), "10.0.0.2");
    // A long jump passes over leases and their whole quarantine.
    allocator.advance_to(1000).unwrap();
    assert_eq!(allocator.usage("p0").unwrap(), Usage { allocatable: 14, allocated: 0, quarantined: 0 });
}

fn quarantined_nothing_is_beyond_the_end_of_time<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, quarantine(MAX_MS));
    let beyond = spec("10.9.0.0/24").with_policy(quarantine(MAX_MS + 1));
    assert_eq!(kind(allocator.create_pool("p1", &beyond)), ErrorKind::Invalid);
    let shape = PoolShape { policy: quarantine(u64::MAX), ..PoolShape::default() };
    assert_eq!(kind(allocator.update_pool("p0", &shape)), ErrorKind::Invalid);
    allocator.advance_to(MAX_MS - 1).unwrap();
    all(&mut allocator, "a", &[Request::several("p0", 2)]).unwrap();
    allocator.release("p0", address("10.0.0.1"), "a").unwrap();
    assert_eq!(allocator.usage("p0").unwrap().quarantined, 1);
    allocator.advance_to(MAX_MS).unwrap();
    assert_eq!(allocator.usage("p0").unwrap().quarantined, 0);
    allocator.release("p0", address("10.0.0.2"), "a").unwrap();
    assert_eq!(allocator.usage("p0").unwrap().free(), 14);
}

fn reconfigurable_a_quarantine_outlasts_an_update_and_hinders_none<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, quarantine(10));
    all(&mut allocator, "a", &[Request::several("p0", 3)]).unwrap();
    allocator.release_owner("a").unwrap();
    let shape = |range: &str| PoolShape { ranges: vec![range.parse().unwrap()], ..PoolShape::default() };
    allocator.update_pool("p0", &shape("10.0.0.2-10.0.0.5")).unwrap();
    assert_eq!(allocator.usage("p0").unwrap(), Usage { allocatable: 4, allocated: 0, quarantined: 2 });
    assert_eq!(any(&mut allocator, "a", "p0").unwrap(), "10.0.0.4");
    // What was not allocatable for a while is free at once when it is again.
    allocator.update_pool("p0", &shape("10.0.0.1-10.0.0.5")).unwrap();
    assert_eq!(drain(&mut allocator, "p0"), ["10.0.0.1", "10.0.0.5"]);
    seen(&mut allocator);
    allocator.advance_to(10).unwrap();
    assert_eq!(drain(&mut allocator, "p0"), ["10.0.0.2", "10.0.0.3"]);
    for owner in ["a", "drain"] {
        allocator.release_owner(owner).unwrap();
    }
    allocator.update_pool("p0", &PoolShape { policy: quarantine(10), ..PoolShape::default() }).unwrap();
    any(&mut allocator, "a", "p0").unwrap();
    allocator.release_owner("a").unwrap();
    allocator.delete_pool("p0").unwrap();
    allocator.create_pool("p0", &spec("10.0.0.0/30")).unwrap();
    assert_eq!(drain(&mut allocator, "p0").len(), 2);
    seen(&mut allocator);
}

fn exclusive_a_late_release_spares_the_next_allocation<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    let hold = |allocator: &mut Allocator<S>| allocator.allocate("a", &[Request::any("p0")], None).unwrap().grants[0];
    let release = |generation| Release { pool: "p0", resource: resource("10.0.0.2"), owner: "a", generation };
    let first = hold(&mut allocator);
    allocator.release("p0", first.resource, "a").unwrap();
    let second = hold(&mut allocator);
    assert!(second.resource == first.resource && second.generation > first.generation);
    let before = seen(&mut allocator);
    let late = allocator.release_exactly(&release(Some(first.generation))).unwrap_err();
    assert!(matches!(late, Error::NotFound("that allocation is over")));
    let early = release(Some(second.generation + 1));
    assert_eq!(kind(allocator.release_exactly(&early)), ErrorKind::NotFound);
    let stranger = Release { owner: "b", ..release(Some(second.generation)) };
    assert_eq!(kind(allocator.release_exactly(&stranger)), ErrorKind::NotOwner);
    assert_eq!(seen(&mut allocator), before);
    assert_eq!(before.0[0].generation, second.generation);
    allocator.renew("p0", second.resource, "a", 5).unwrap();
    allocator.release_exactly(&release(Some(second.generation))).unwrap();
    assert_eq!(held(&mut allocator), [""; 0]);
}

fn exclusive_generations_go_on_in_a_pool_of_the_same_name<S: Store>(mut allocator: Allocator<S>) {
    let mut last = 0;
    for prefix in ["10.0.0.0/29", "10.0.0.0/29", "fd00::/64"] {
        allocator.create_pool("p0", &spec(prefix)).unwrap();
        let granted = allocator.allocate("a", &[Request::several("p0", 3)], None).unwrap();
        for grant in granted.grants {
            assert!(grant.generation > last);
            last = grant.generation;
        }
        allocator.release_owner("a").unwrap();
        allocator.delete_pool("p0").unwrap();
    }
}

fn atomic_savepoints_nest<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    assert_eq!(kind(allocator.savepoint()), ErrorKind::Invalid);
    allocator.begin().unwrap();
    any(&mut allocator, "a", "p0").unwrap();
    let outer = allocator.savepoint().unwrap();
    let at_outer = seen(&mut allocator);
    any(&mut allocator, "b", "p0").unwrap();
    let inner = allocator.savepoint().unwrap();
    let at_inner = seen(&mut allocator);
    for _ in 0..2 {
        allocator.update_pool("p1", &PoolShape::default()).unwrap();
        allocator.delete_pool("p1").unwrap();
        assert_eq!(any(&mut allocator, "c", "p0").unwrap(), "10.0.0.4");
        allocator.rollback_to(inner).unwrap();
        assert_eq!(seen(&mut allocator), at_inner);
    }
    // A refused call between savepoints undoes only itself.
    assert_eq!(kind(all(&mut allocator, "c", &[Request::any("p0"), Request::several("p1", 4)])), ErrorKind::Exhausted);
    assert_eq!(seen(&mut allocator), at_inner);
    allocator.release_savepoint(inner).unwrap();
    assert_eq!(seen(&mut allocator), at_inner);
    allocator.rollback_to(outer).unwrap();
    assert_eq!(seen(&mut allocator), at_outer);
    any(&mut allocator, "d", "p1").unwrap();
    allocator.release_savepoint(outer).unwrap();
    allocator.commit().unwrap();
    assert_eq!(held(&mut allocator), ["p0 10.0.0.2 a", "p1 fd00::1 d"]);
}

fn atomic_a_forgotten_savepoint_stays_forgotten<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    allocator.begin().unwrap();
    let released = allocator.savepoint().unwrap();
    allocator.release_savepoint(released).unwrap();
    let outer = allocator.savepoint().unwrap();
    let undone = allocator.savepoint().unwrap();
    allocator.rollback_to(outer).unwrap();
    let inner = allocator.savepoint().unwrap();
    let forgotten = |allocator: &mut Allocator<S>, savepoint| {
        assert_eq!(kind(allocator.rollback_to(savepoint)), ErrorKind::Invalid);
        assert_eq!(kind(allocator.release_savepoint(savepoint)), ErrorKind::Invalid);
    };
    any(&mut allocator, "a", "p0").unwrap();
    for savepoint in [released, undone] {
        forgotten(&mut allocator, savepoint);
    }
    assert_eq!(held(&mut allocator), ["p0 10.0.0.2 a"]);
    allocator.rollback_to(inner).unwrap();
    allocator.commit().unwrap();
    allocator.begin().unwrap();
    allocator.savepoint().unwrap();
    for savepoint in [released, outer, undone, inner] {
        forgotten(&mut allocator, savepoint);
    }
}

fn accounted_an_address_is_found_in_the_block_that_holds_it<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, Policy::default());
    named(&mut allocator, "a", "p0", "10.0.0.3").unwrap();
    named(&mut allocator, "b", "p0", "10.0.0.4/30").unwrap();
    let listed = allocator.list(None).unwrap();
    let mut find = |text: &str| allocator.find("p0", address(text));
    assert_eq!(find("10.0.0.3").unwrap().as_ref(), Some(&listed[0]));
    for text in ["10.0.0.4", "10.0.0.5", "10.0.0.7"] {
        assert_eq!(find(text).unwrap().as_ref(), Some(&listed[1]), "{text}");
    }
    for text in ["10.0.0.0", "10.0.0.2", "10.0.0.8", "10.0.0.15"] {
        assert_eq!(find(text).unwrap(), None, "{text}");
    }
    for text in ["10.0.0.16", "::a00:4"] {
        assert_eq!(kind(find(text)), ErrorKind::Invalid, "{text}");
    }
    assert_eq!(kind(allocator.find("absent", address("10.0.0.4"))), ErrorKind::NotFound);
}

fn accounted_an_owner_is_told_all_it_holds<S: Store>(mut allocator: Allocator<S>) {
    // Created in this order, which is none of their names or prefixes.
    for (name, prefix) in [("z", "fd00::/120"), ("m", "10.0.0.0/24"), ("a", "9.0.0.0/24")] {
        allocator.create_pool(name, &spec(prefix)).unwrap();
    }
    let requests = [Request::any("a"), Request::named("m", resource("10.0.0.8/30")), Request::several("m", 2)];
    allocator.allocate("o", &requests, Some(7)).unwrap();
    any(&mut allocator, "other", "z").unwrap();
    any(&mut allocator, "o", "z").unwrap();
    let told = allocator.find_owner("o").unwrap();
    let texts: Vec<_> = told.iter().map(|one| one.resource.to_string()).collect();
    assert_eq!(texts, ["fd00::2", "10.0.0.1", "10.0.0.2", "10.0.0.8/30", "9.0.0.1"]);
    assert_eq!(told.iter().map(|one| one.expires_ms).collect::<Vec<_>>(), [None, Some(7), Some(7), Some(7), Some(7)]);
    let listed = allocator.list(None).unwrap();
    assert_eq!(told, listed.into_iter().filter(|one| &*one.owner == "o").collect::<Vec<_>>());
    assert_eq!(allocator.find_owner("nobody").unwrap(), []);
    let released: Vec<_> = allocator.release_owner("o").unwrap().iter().map(|one| one.resource.to_string()).collect();
    assert_eq!(released, texts);
}

fn accounted_pages_list_what_is_held_all_the_while_just_once<S: Store>(mut allocator: Allocator<S>) {
    allocator.create_pool("z", &spec("10.0.0.0/28")).unwrap();
    allocator.create_pool("a", &spec("fd00::/64")).unwrap();
    all(&mut allocator, "o", &[Request::several("z", 4), Request::several("a", 3)]).unwrap();
    let texts = |page: &poolproof_allocator::Page| -> Vec<_> {
        page.allocations.iter().map(|one| one.resource.to_string()).collect()
    };
    let page = allocator.list_page(None, None, 2).unwrap();
    assert_eq!(texts(&page), ["10.0.0.1", "10.0.0.2"]);
    // What is behind the cursor may go, and so may what it points at.
    allocator.release("z", address("10.0.0.1"), "o").unwrap();
    allocator.release("z", address("10.0.0.3"), "o").unwrap();
    let page = allocator.list_page(None, page.next, 2).unwrap();
    assert_eq!(texts(&page), ["10.0.0.4", "fd00::1"]);
    allocator.create_pool("b", &spec("10.1.0.0/30")).unwrap();
    any(&mut allocator, "o", "b").unwrap();
    any(&mut allocator, "o", "z").unwrap();
    let page = allocator.list_page(None, page.next, 3).unwrap();
    assert_eq!(texts(&page), ["fd00::2", "fd00::3", "10.1.0.1"]);
    assert_eq!(page.next, None);
    let page = allocator.list_page(Some("a"), None, 1).unwrap();
    assert_eq!(texts(&page), ["fd00::1"]);
    let page = allocator.list_page(Some("a"), page.next, 2).unwrap();
    assert_eq!((texts(&page).len(), page.next), (2, None));
    assert_eq!(allocator.list_page(Some("a"), None, usize::MAX).unwrap().allocations.len(), 3);
    assert_eq!(kind(allocator.list_page(Some("absent"), None, 1)), ErrorKind::NotFound);
    // The pool that a cursor is of may be gone, and another one have its name.
    let page = allocator.list_page(Some("b"), None, 0).unwrap();
    allocator.release_owner("o").unwrap();
    allocator.delete_pool("b").unwrap();
    allocator.create_pool("b", &spec("9.0.0.0/30")).unwrap();
    any(&mut allocator, "o", "b").unwrap();
    assert_eq!(texts(&allocator.list_page(Some("b"), page.next, 1).unwrap()), ["9.0.0.1"]);
    allocator.reset().unwrap();
    assert_eq!(allocator.list_page(None, None, 1).unwrap().next, None);
}

fn scoped_address_spaces_do_not_hinder_each_other<S: Store>(mut allocator: Allocator<S>) {
    for space in ["", "red", "Red", "red ", "%", "🦀"] {
        allocator.create_pool(&format!("p{space}"), &spec("10.0.0.0/29").with_space(space)).unwrap();
        for prefix in ["10.0.0.0/29", "10.0.0.4/30", "10.0.0.0/8", "0.0.0.0/0"] {
            let overlapping = spec(prefix).with_space(space);
            assert_eq!(kind(allocator.create_pool("other", &overlapping)), ErrorKind::Conflict, "{space:?} {prefix}");
        }
        assert_eq!(kind(allocator.create_pool(&format!("p{space}"), &spec("10.9.0.0/24"))), ErrorKind::Conflict);
        assert_eq!(any(&mut allocator, "a", &format!("p{space}")).unwrap(), "10.0.0.1");
    }
    for space in ["a\0b", &"x".repeat(256)] {
        assert_eq!(kind(allocator.create_pool("other", &spec("10.9.0.0/24").with_space(space))), ErrorKind::Invalid);
    }
    assert_eq!(allocator.release_owner("a").unwrap().len(), 6);
    allocator.delete_pool("pred").unwrap();
    allocator.create_pool("pred", &spec("10.0.0.0/8").with_space("red")).unwrap();
    seen(&mut allocator);
}

fn accounted_pools_are_told_as_they_are<S: Store>(mut allocator: Allocator<S>) {
    let policy = Policy { strategy: Strategy::Next, repeat: Repeat::Same, quarantine_ms: 9 };
    let second = spec("10.0.0.0/29").with_gateway(address("10.0.0.1")).with_exclusion("10.0.0.4".parse().unwrap());
    allocator.create_pool("z", &second.with_policy(policy)).unwrap();
    allocator.create_pool("a", &spec("::/0").with_space("red")).unwrap();
    any(&mut allocator, "o", "z").unwrap();
    let ranges = |pool: &poolproof_allocator::PoolInfo| -> Vec<_> {
        pool.allocatable.iter().map(|range| range.to_string()).collect()
    };
    let pools = allocator.pools().unwrap();
    let names: Vec<_> = pools.iter().map(|pool| (&*pool.name, pool.prefix.to_string(), pool.policy)).collect();
    assert_eq!(names, [("z", "10.0.0.0/29".to_owned(), policy), ("a", "::/0".to_owned(), Policy::default())]);
    assert_eq!(ranges(&pools[0]), ["10.0.0.2-10.0.0.3", "10.0.0.5-10.0.0.6"]);
    assert_eq!(ranges(&pools[1]), ["::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
    assert_eq!(pools[0].usage, Usage { allocatable: 4, allocated: 1, quarantined: 0 });
    assert_eq!(pools[1].usage, Usage { allocatable: u128::MAX, allocated: 0, quarantined: 0 });
    for pool in pools {
        assert_eq!(allocator.pool(&pool.name).unwrap(), pool);
    }
    assert_eq!(kind(allocator.pool("absent")), ErrorKind::NotFound);
    allocator.update_pool("z", &PoolShape::default()).unwrap();
    let updated = allocator.pool("z").unwrap();
    assert_eq!((ranges(&updated), updated.policy), (vec!["10.0.0.1-10.0.0.6".to_owned()], Policy::default()));
}

fn accounted_an_audit_finds_nothing<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_policy(allocator, quarantine(5));
    assert_eq!(allocator.audit().unwrap(), []);
    allocator.create_pool("all6", &spec("::/0")).unwrap();
    let requests = [Request::several("p0", 3), Request::block("p0", 30), Request::block("all6", 64)];
    allocator.allocate("a", &requests, Some(3)).unwrap();
    all(&mut allocator, "b", &[Request::any("p0"), Request::any("all6")]).unwrap();
    allocator.release("p0", address("10.0.0.8"), "b").unwrap();
    assert_eq!(allocator.audit().unwrap(), []);
    for now_ms in 1..10 {
        allocator.advance_to(now_ms).unwrap();
        assert_eq!(allocator.audit().unwrap(), []);
    }
    allocator.begin().unwrap();
    drain(&mut allocator, "p0");
    assert_eq!(allocator.audit().unwrap(), []);
    allocator.rollback().unwrap();
    assert_eq!(allocator.audit().unwrap(), []);
}

/// An allocator may move to another thread, or live behind a lock there.
#[test]
fn allocators_and_errors_can_be_sent() {
    fn is_send<T: Send>() {}
    is_send::<poolproof_allocator::MemoryAllocator>();
    is_send::<poolproof_allocator::SqliteAllocator>();
    is_send::<poolproof_allocator::Error>();
}
