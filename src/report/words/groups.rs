//! What stands side by side on the page: the cases that were compared with each other, with their
//! valid trials.

use crate::compare::{Comparison, ComparisonRow, NamedRecord};
use crate::plan::Case;
use crate::record::{Record, Trial};
use crate::report::words::view::{trials, usable};

/// One line of a chart, one row of a table.
#[derive(Debug, Clone, Copy)]
pub struct ChartSide<'a> {
    /// As it is called in the sentences.
    pub label: &'a str,
    /// The record it is from.
    pub record: &'a Record,
    pub case: &'a Case,
}

impl<'a> ChartSide<'a> {
    /// The trials that count.
    pub fn valid(&self) -> impl Iterator<Item = &'a Trial> + use<'a> {
        trials(self.record, &self.case.id).filter(|t| usable(t))
    }

    /// All that were executed.
    pub fn all(&self) -> Vec<&'a Trial> {
        trials(self.record, &self.case.id).collect()
    }
}

/// What stands in one chart: the systems of one load point, or one system of two results.
#[derive(Debug)]
pub struct ChartGroup<'a> {
    /// Scenario and load point; and the system, where several systems of two results are compared.
    pub name: String,
    /// In the order in which they are compared; the index is the colour.
    pub sides: Vec<ChartSide<'a>>,
    /// What was found of them.
    pub rows: Vec<&'a ComparisonRow>,
}

/// The groups of a comparison. `records` are the baseline and, where it is another one, the
/// candidate.
pub fn groups<'a>(c: &'a Comparison, records: &[NamedRecord<'a>]) -> Vec<ChartGroup<'a>> {
    let mut list: Vec<ChartGroup<'a>> = Vec::new();
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return list };
    let several = records.len() > 1 && first.record.plan.systems.len() > 1;
    for row in &c.rows {
        let case = first.record.plan.cases.iter().find(|k| k.id == row.a.case);
        let system = case.and_then(|k| first.record.plan.systems.get(k.system)).map_or("", |s| s.name.as_str());
        let name = if several { format!("{}, {system}", row.scenario) } else { row.scenario.clone() };
        let at = list.iter().position(|g| g.name == name).unwrap_or_else(|| {
            list.push(ChartGroup { name, sides: Vec::new(), rows: Vec::new() });
            list.len() - 1
        });
        let group = &mut list[at];
        for (sample, record) in [(&row.a, first.record), (&row.b, last.record)] {
            let Some(case) = record.plan.cases.iter().find(|k| k.id == sample.case) else { continue };
            if group.sides.iter().all(|s| s.label != sample.label) {
                group.sides.push(ChartSide { label: &sample.label, record, case });
            }
        }
        group.rows.push(row);
    }
    list
}
