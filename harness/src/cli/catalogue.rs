//! The commands `suts` and `properties`: what there is.

use anyhow::Result;
use poolproof::property::{Property, Verdict};
use poolproof::sut::spec;
use serde_json::{Value, json};

use super::arguments::Format;
use super::print;

pub(super) fn suts(format: Format) -> Result<Verdict> {
    let lines = spec::FORMS.iter().map(|form| format!("{:<22} {}\n", form.form, form.help)).collect::<String>();
    let list = spec::FORMS.iter().map(|form| json!({ "form": form.form, "help": form.help }));
    show(format, &lines, "suts", list.collect())
}

pub(super) fn properties(format: Format) -> Result<Verdict> {
    let line = |property: Property| {
        let weakness = property.weakness().unwrap_or("-");
        let engines = property.checked_by();
        format!("{:<15} {}\n{:<15} {weakness}; {engines}\n", property.name(), property.promise(), "")
    };
    let lines = Property::ALL.into_iter().map(line).collect::<String>();
    let list = Property::ALL.into_iter().map(|property| {
        json!({
            "name": property.name(),
            "promise": property.promise(),
            "weakness": property.weakness(),
            "checked_by": property.checked_by(),
        })
    });
    show(format, &lines, "properties", list.collect())
}

fn show(format: Format, lines: &str, name: &str, list: Vec<Value>) -> Result<Verdict> {
    match format {
        Format::Human => print(lines)?,
        Format::Json => print(&format!("{}\n", json!({ name: list })))?,
    }
    Ok(Verdict::Pass)
}
