//! Which promise is broken, where the model can only tell by what: found out by what it takes to make it go away.
//!
//! A system that takes `%` for a pattern gives back what others hold, and one that takes `2001:DB8::5` for another address
//! than `2001:db8::5` holds it twice. The model sees the deed. But the same scenario with plain names, or with every address
//! as everybody writes it, shows nothing any more: then it was the name (`inert`), or the spelling (`canonical`).

use crate::address::{Grant, parse_address, parse_prefix};
use crate::model::is_plain_name;
use crate::operation::{Operation, PoolShape, Text, is_name};
use crate::property::Property;
use crate::scenario::names::visit_names;
use crate::scenario::{Operand, Scenario, Spelling, Step, text};

/// The scenario without what may be to blame, and the promise that is broken if nothing goes wrong then.
pub(super) fn without_suspects(scenario: &Scenario) -> impl Iterator<Item = (Property, Scenario)> + use<> {
    let named = (Property::Inert, plainly_named(scenario));
    let spelled = (Property::Canonical, plainly_spelled(scenario));
    let changed: Vec<_> = [named, spelled].into_iter().filter(|(_, plain)| plain != scenario).collect();
    changed.into_iter()
}

/// The scenario with a plain name for each that has more than letters, digits and the usual joiners in it.
fn plainly_named(scenario: &Scenario) -> Scenario {
    let mut plain = scenario.clone();
    let mut known: Vec<(bool, Text)> = Vec::new();
    visit_names(&mut plain, |is_owner, name| {
        // One that must be refused is to be refused still.
        if is_plain_name(name) || !is_name(name) {
            return;
        }
        let odd = (is_owner, name.clone());
        let number = known.iter().position(|other| *other == odd).unwrap_or(known.len());
        if number == known.len() {
            known.push(odd);
        }
        *name = text(&format!("plain{number}"));
    });
    plain
}

/// The scenario with every address as everybody writes it.
fn plainly_spelled(scenario: &Scenario) -> Scenario {
    let mut plain = scenario.clone();
    for step in &mut plain.steps {
        let Step::Call(operation) = step else { continue };
        match operation {
            Operation::CreatePool { prefix, shape, .. } => {
                *prefix = usual(prefix);
                spell_shape(shape);
            }
            Operation::UpdatePool { shape, .. } => spell_shape(shape),
            _ => operation.addresses_mut().for_each(spell_operand),
        }
    }
    plain
}

fn spell_shape(PoolShape { ranges, gateway, exclude }: &mut PoolShape) {
    let ends = ranges.iter_mut().flat_map(|(first, last)| [first, last]);
    ends.chain(gateway).for_each(|address| *address = usual(address));
    for exclusion in exclude {
        *exclusion = match exclusion.split_once('-') {
            Some((first, last)) => text(&format!("{}-{}", usual(&text(first)), usual(&text(last)))),
            None => usual(exclusion),
        };
    }
}

fn spell_operand(operand: &mut Operand) {
    match operand {
        Operand::Literal(address) => *address = usual(address),
        Operand::Granted(_, spelling) | Operand::Nth(_, spelling) if Spelling::SAME.contains(spelling) => {
            *spelling = Spelling::Plain;
        }
        Operand::Granted(..) | Operand::Nth(..) => {}
    }
}

/// An address or prefix as everybody writes it; what is none stays as it is.
fn usual(written: &Text) -> Text {
    let address = parse_address(written).map(|address| Grant::Address(address).to_string());
    let prefix = || parse_prefix(written).map(|prefix| prefix.to_string());
    address.or_else(prefix).map_or_else(|| written.clone(), |usual| text(&usual))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;

    fn suspects(steps: &str) -> Vec<(Property, String)> {
        let scenario = parse(&format!("poolproof scenario 1\n{steps}")).unwrap();
        without_suspects(&scenario).map(|(property, plain)| (property, plain.to_string())).collect()
    }

    #[test]
    fn names_become_plain_each_its_own() {
        let found =
            suspects("pool \"a%\" 10.0.0.0/30\nfill \"a%\" \"%\" 1\nallocate \"b%\" \"a%\"\nrelease-owner \"\"\n");
        let plain = "poolproof scenario 1\npool plain0 10.0.0.0/30\nfill plain0 \"plain1\" 1\nallocate \"plain2\" plain0\n\
            release-owner \"\"\n";
        assert_eq!(found, [(Property::Inert, plain.to_owned())]);
    }

    #[test]
    fn spellings_become_usual_where_they_mean_the_same() {
        let found = suspects(
            "pool p0 2001:DB8::/64 range 2001:db8:0::2 2001:db8::9 exclude 2001:DB8::4-2001:db8::5\n\
             allocate \"a\" p0 [3]~full\nrelease p0 @2~zone \"a\"\n",
        );
        let plain = "poolproof scenario 1\n\
            pool p0 2001:db8::/64 range 2001:db8::2 2001:db8::9 exclude 2001:db8::4-2001:db8::5\n\
            allocate \"a\" p0 [3]\nrelease p0 @2~zone \"a\"\n";
        assert_eq!(found, [(Property::Canonical, plain.to_owned())]);
    }

    #[test]
    fn what_is_plain_leaves_nothing_to_suspect() {
        assert_eq!(suspects("pool p0 10.0.0.0/30\nallocate \"alice-1\" p0\n"), []);
    }
}
