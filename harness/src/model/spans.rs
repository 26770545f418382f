//! Lists of spans: sorted, disjoint, not adjacent. Whatever is done with two of them walks through both at once.

use crate::address::Span;

/// Makes such a list of any spans.
pub(crate) fn merge(spans: &mut Vec<Span>) {
    spans.sort_unstable();
    spans.dedup_by(|next, kept| {
        let touches = next.first <= kept.last.saturating_add(1);
        if touches {
            kept.last = kept.last.max(next.last);
        }
        touches
    });
}

/// Those of a list that share an address with `span`.
pub(crate) fn overlapping(list: &[Span], span: Span) -> impl Iterator<Item = Span> {
    let start = list.partition_point(|other| other.last < span.first);
    list[start..].iter().copied().take_while(move |other| other.first <= span.last)
}

/// Do two lists share an address?
pub(super) fn share(one: &[Span], other: &[Span]) -> bool {
    let (fewer, more) = if one.len() < other.len() { (one, other) } else { (other, one) };
    fewer.iter().any(|span| overlapping(more, *span).next().is_some())
}

/// What of a list no hole covers; the holes are a list as well.
pub(crate) fn without(list: &[Span], holes: &[Span]) -> Vec<Span> {
    let mut left = Vec::with_capacity(list.len() + holes.len());
    for whole in list {
        let mut next = Some(whole.first);
        for hole in overlapping(holes, *whole) {
            let before = hole.first.checked_sub(1);
            left.extend(next.zip(before).and_then(|(start, end)| Span::new(start, end)));
            next = hole.last.checked_add(1);
        }
        left.extend(next.and_then(|start| Span::new(start, whole.last)));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Span = Span { first: 0, last: u128::MAX };

    fn list(spans: &[(u128, u128)]) -> Vec<Span> {
        spans.iter().map(|(first, last)| Span { first: *first, last: *last }).collect()
    }

    #[test]
    fn overlapping_and_adjacent_spans_become_one() {
        let mut spans = list(&[(7, 9), (0, 4), (2, 3), (5, 5), (u128::MAX, u128::MAX), (9, 11)]);
        merge(&mut spans);
        assert_eq!(spans, list(&[(0, 5), (7, 11), (u128::MAX, u128::MAX)]));
    }

    #[test]
    fn holes_at_the_ends_of_the_space() {
        assert_eq!(without(&[WHOLE], &[Span::one(0), Span::one(u128::MAX)]), list(&[(1, u128::MAX - 1)]));
        assert_eq!(without(&[WHOLE], &[]), [WHOLE]);
        assert!(without(&[WHOLE], &[WHOLE]).is_empty());
    }

    #[test]
    fn holes_may_pass_the_ends_of_a_span() {
        let holes = list(&[(0, 2), (4, 4), (8, 21), (23, 24)]);
        assert_eq!(without(&list(&[(1, 9), (11, 12), (20, 30)]), &holes), list(&[(3, 3), (5, 7), (22, 22), (25, 30)]));
    }

    #[test]
    fn sharing_is_mutual() {
        let (one, other) = (list(&[(0, 1), (5, 6), (9, 9)]), list(&[(2, 4), (6, 8)]));
        assert!(share(&one, &other) && share(&other, &one));
        assert!(!share(&one, &other[..1]) && !share(&other[..1], &one));
    }
}
