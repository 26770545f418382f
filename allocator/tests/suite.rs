//! The properties that hold for every store, each written once and run over both.

mod common;

use common::{address, any, drain, kind, named, seen, spec, with_pools};
use poolproof_allocator::store::Store;
use poolproof_allocator::{Allocator, ErrorKind, MAX_MS, PoolShape, Request};

/// Runs each property over a fresh allocator of either store.
macro_rules! over_both_stores {
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
    };
}

over_both_stores! {
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
        assert_eq!(allocator.release_owner("a").unwrap().last().unwrap().address, address(&format!("{top}f")));
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
    assert_eq!(granted.addresses.as_slice(), ["10.0.0.3", "10.0.0.2", "10.0.0.4"].map(address));
}

fn complete_several_requests_may_name_one_pool<S: Store>(allocator: Allocator<S>) {
    let mut allocator = with_pools(allocator);
    assert_eq!(allocator.allocate("a", &[Request::any("p1"); 3], None).unwrap().addresses.len(), 3);
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
    let released: Vec<_> = released.iter().map(|one| (&*one.pool, one.address.to_string())).collect();
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
        assert_eq!(kind(allocator.usage(name)), ErrorKind::Invalid);
    }
    assert_eq!(seen(&mut allocator), before);
}

fn bounded_ten_thousand_allocations_in_the_largest_prefix<S: Store>(mut allocator: Allocator<S>) {
    allocator.create_pool("all6", &spec("::/0")).unwrap();
    allocator.begin().unwrap();
    for value in 1..=10_000_u128 {
        let granted = allocator.allocate("a", &[Request::any("all6")], Some(10)).unwrap();
        assert_eq!(granted.addresses[0], std::net::Ipv6Addr::from_bits(value));
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
    assert_eq!(seen(&mut allocator), (vec![], [None, None], 0));
    let mut allocator = with_pools(allocator);
    assert_eq!(drain(&mut allocator, "p0").len(), 5);
}

/// An allocator may move to another thread, or live behind a lock there.
#[test]
fn allocators_and_errors_can_be_sent() {
    fn is_send<T: Send>() {}
    is_send::<poolproof_allocator::MemoryAllocator>();
    is_send::<poolproof_allocator::SqliteAllocator>();
    is_send::<poolproof_allocator::Error>();
}
