//! What stands in the `{slots}` of questions and queries: values of the shop, and choices that pair a phrase with the SQL
//! that it means. A slot may end in a digit (`{city2}`) to be filled twice in one intent.

use anyhow::{Result, bail};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::choices::CHOICES;
use crate::database::Shop;
use crate::phrasing::{expand, fill, slots};
use crate::values::{CATEGORIES, COUNTRIES, FIRST_NAMES, LAST_NAMES, MONTHS, ROLES, STATUSES, STYLES, YEARS};

/// A slot that was filled.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    /// The slot's name.
    pub(crate) slot: String,
    /// The words in the question.
    pub(crate) question: String,
    /// The text in the query.
    pub(crate) sql: String,
}

/// Fills every slot of a query, in order.
///
/// # Errors
/// When a slot is not known.
pub(crate) fn bind_all(sql: &str, shop: &Shop, rng: &mut ChaCha8Rng) -> Result<Vec<Binding>> {
    slots(sql).into_iter().map(|slot| bind(slot, shop, rng)).collect()
}

/// Puts the questions' side of `bindings` into a phrase.
pub(crate) fn fill_question(template: &str, bindings: &[Binding]) -> String {
    fill(template, |slot| find(bindings, slot).map_or("", |binding| &binding.question))
}

/// Puts the queries' side of `bindings` into a query.
pub(crate) fn fill_sql(template: &str, bindings: &[Binding]) -> String {
    fill(template, |slot| find(bindings, slot).map_or("", |binding| &binding.sql))
}

fn find<'b>(bindings: &'b [Binding], slot: &str) -> Option<&'b Binding> {
    bindings.iter().find(|binding| binding.slot == slot)
}

fn bind(slot: &str, shop: &Shop, rng: &mut ChaCha8Rng) -> Result<Binding> {
    let kind = slot.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let (question, sql) = match CHOICES.iter().find(|(name, _)| *name == kind) {
        Some((_, options)) => bind_choice(options, shop, rng)?,
        None => bind_value(kind, shop, rng)?,
    };
    Ok(Binding { slot: slot.to_owned(), question, sql })
}

fn bind_choice(options: &[(&str, &str)], shop: &Shop, rng: &mut ChaCha8Rng) -> Result<(String, String)> {
    let Some((phrase, sql)) = options.choose(rng) else { bail!("a choice has no options: give it at least one") };
    let bindings = bind_all(sql, shop, rng)?;
    Ok((fill_question(&expand(phrase, rng), &bindings), fill_sql(sql, &bindings)))
}

fn bind_value(kind: &str, shop: &Shop, rng: &mut ChaCha8Rng) -> Result<(String, String)> {
    Ok(match kind {
        "category" => same(pick(&CATEGORIES, rng).0),
        "noun" => same(*pick(&pick(&CATEGORIES, rng).1, rng)),
        "style" => same(*pick(&STYLES, rng)),
        "country" => same(pick(&COUNTRIES, rng).0),
        "city" => same(pick(&shop.customers, rng).city),
        "supplier_country" => same(pick(&shop.suppliers, rng).country),
        "customer" => same(pick(&shop.customers, rng).name.as_str()),
        "buyer" => same(shop.customers[pick(&shop.orders, rng).customer].name.as_str()),
        "reviewer" => same(shop.customers[pick(&shop.reviews, rng).customer].name.as_str()),
        "first_name" => same(*pick(&FIRST_NAMES, rng)),
        "last_name" => same(*pick(&LAST_NAMES, rng)),
        "employee" => same(pick(&shop.employees, rng).name.as_str()),
        "clerk" => same(shop.employees[pick(&shop.orders, rng).employee].name.as_str()),
        "supplier" => same(pick(&shop.suppliers, rng).name.as_str()),
        "vendor" => same(shop.suppliers[pick(&shop.products, rng).supplier].name.as_str()),
        "product" => same(pick(&shop.products, rng).name.as_str()),
        "sold_product" => same(shop.products[pick(&shop.order_items, rng).product].name.as_str()),
        "reviewed_product" => same(shop.products[pick(&shop.reviews, rng).product].name.as_str()),
        "order" => same(rng.random_range(1..=shop.orders.len()).to_string()),
        "role" => role(rng),
        "status" => same(*pick(&STATUSES, rng)),
        "year" => same(year(rng).to_string()),
        "month" => month(rng),
        "date" => same(first_of_month(rng)),
        "date_range" => date_range(rng),
        "price" => same((rng.random_range(2..=30) * 5).to_string()),
        "price_range" => price_range(rng),
        "amount" => same((rng.random_range(2..=20) * 50).to_string()),
        "units" => same((rng.random_range(1..=10) * 10).to_string()),
        "salary" => same((rng.random_range(19..=48) * 100).to_string()),
        "few" => same(rng.random_range(2..=4).to_string()),
        "top" => same(rng.random_range(2..=10).to_string()),
        "stars" => same(rng.random_range(1..=5).to_string()),
        _ => bail!("no slot is called \"{kind}\": add it to slots.rs or to choices.rs"),
    })
}

fn pick<'v, T>(values: &'v [T], rng: &mut ChaCha8Rng) -> &'v T {
    &values[rng.random_range(0..values.len())]
}

fn same(value: impl Into<String>) -> (String, String) {
    let value = value.into();
    (value.clone(), value)
}

fn year(rng: &mut ChaCha8Rng) -> i64 {
    rng.random_range(YEARS.0..=YEARS.1)
}

/// With its article in the question.
fn role(rng: &mut ChaCha8Rng) -> (String, String) {
    let role = pick(&ROLES, rng).0;
    let article = if role.starts_with(['a', 'e']) { "an" } else { "a" };
    (format!("{article} {role}"), role.to_owned())
}

fn month(rng: &mut ChaCha8Rng) -> (String, String) {
    let index = rng.random_range(0..MONTHS.len());
    (MONTHS[index].to_owned(), format!("{:02}", index + 1))
}

fn first_of_month(rng: &mut ChaCha8Rng) -> String {
    format!("{}-{:02}-01", year(rng), rng.random_range(1..=12))
}

/// One to eleven months.
fn date_range(rng: &mut ChaCha8Rng) -> (String, String) {
    let start = year(rng) * 12 + rng.random_range(0..12);
    let end = start + rng.random_range(1..=11);
    let [start, end] = [start, end].map(|months| format!("{}-{:02}-01", months / 12, months % 12 + 1));
    (format!("{start} and {end}"), format!("'{start}' AND '{end}'"))
}

fn price_range(rng: &mut ChaCha8Rng) -> (String, String) {
    let low = rng.random_range(1..=20) * 5;
    let high = low + rng.random_range(2..=12) * 5;
    (format!("{low} and {high}"), format!("{low} AND {high}"))
}
