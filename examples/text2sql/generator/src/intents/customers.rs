//! Questions about the customers themselves.

use super::{Intent, intent};

pub(super) const INTENTS: &[Intent] = &[
    intent(
        "customer-count",
        "SELECT COUNT(*) FROM customers WHERE {customer_filter}",
        &[
            "how many <customers> {customer_filter} (are there|do we have)",
            "count [all|the] <customers> {customer_filter}",
            "<what is> the number of <customers> {customer_filter}",
            "what number of <customers> {customer_filter} do we have",
        ],
    ),
    intent(
        "customer-list",
        "SELECT {customer_fields} FROM customers WHERE {customer_filter}",
        &[
            "<list> the {customer_fields} of [all|the] <customers> {customer_filter}",
            "<what are> the {customer_fields} of [all|the] <customers> {customer_filter}",
            "I need the {customer_fields} of [all|the] <customers> {customer_filter}",
            "for [all|the] <customers> {customer_filter}, what are the {customer_fields}",
        ],
    ),
    intent(
        "customer-country-year",
        "SELECT customers.name FROM customers WHERE customers.country = '{country}' AND strftime('%Y', customers.joined_on) = '{year}'",
        &[
            "which <customers> from {country} joined in {year}",
            "<list> the <customers> from {country} who (joined|signed up) in {year}",
            "who are the <customers> from {country} that (joined|signed up) in {year}",
            "in {year}, which <customers> from {country} (joined|signed up)",
        ],
    ),
    intent(
        "customer-field",
        "SELECT customers.{customer_field} FROM customers WHERE customers.name = '{customer}'",
        &[
            "<what is> the {customer_field} of [the] <customer> {customer}",
            "which {customer_field} (is stored|do we have) for [the] <customer> {customer}",
            "look up the {customer_field} of [the] <customer> {customer}",
            "for [the] <customer> {customer}, what is the {customer_field}",
        ],
    ),
    intent(
        "customer-place-groups",
        "SELECT customers.{place}, COUNT(*) FROM customers WHERE {customer_filter} GROUP BY customers.{place}",
        &[
            "how many <customers> {customer_filter} are there <per> {place}",
            "count the <customers> {customer_filter} <per> {place}",
            "<what is> the number of <customers> {customer_filter} <per> {place}",
            "<per> {place}, how many <customers> {customer_filter} are there",
        ],
    ),
    intent(
        "customer-place-top",
        "SELECT customers.{place}, COUNT(*) FROM customers WHERE {customer_filter} GROUP BY customers.{place} ORDER BY COUNT(*) DESC, customers.{place} LIMIT {top}",
        &[
            "<list> the top {top} by {place} for <customers> {customer_filter}, with counts",
            "where do most <customers> {customer_filter} live, top {top} by {place} with counts",
            "what are the top {top} by {place} with the most <customers> {customer_filter}, and how many are there",
            "rank by {place} the number of <customers> {customer_filter} and (keep|show) the top {top}",
        ],
    ),
    intent(
        "customer-place-having",
        "SELECT customers.{place} FROM customers WHERE strftime('%Y', customers.joined_on) = '{year}' GROUP BY customers.{place} HAVING COUNT(*) {as_many} {few}",
        &[
            "in {year}, which {place} had {as_many} {few} <customers> (joining|signing up)",
            "<list> every {place} where {as_many} {few} <customers> (joined|signed up) in {year}",
            "from which {place} did {as_many} {few} <customers> (join|sign up) in {year}",
            "which {place} (has|counts) {as_many} {few} <customers> who joined in {year}",
        ],
    ),
    intent(
        "customer-newest",
        "SELECT customers.name FROM customers WHERE customers.country = '{country}' ORDER BY customers.joined_on {newest}, customers.name LIMIT {top}",
        &[
            "who are the {top} {newest} <customers> from {country}",
            "<list> the {top} {newest} <customers> (from|in) {country}",
            "which {top} <customers> (from|in) {country} are the {newest}",
            "(from|in) {country}, who are our {top} {newest} <customers>",
        ],
    ),
    intent(
        "customer-without-orders",
        "SELECT customers.name FROM customers WHERE {customer_filter} AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.customer_id = customers.id)",
        &[
            "which <customers> {customer_filter} have never (ordered|bought) anything",
            "<list> the <customers> {customer_filter} who have no orders",
            "who among the <customers> {customer_filter} (never placed an order|has not ordered yet)",
            "which <customers> {customer_filter} did not place any order",
        ],
    ),
    intent(
        "customer-without-orders-count",
        "SELECT COUNT(*) FROM customers WHERE {customer_filter} AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.customer_id = customers.id)",
        &[
            "how many <customers> {customer_filter} have never (ordered|bought) anything",
            "count the <customers> {customer_filter} who have no orders",
            "<what is> the number of <customers> {customer_filter} without [any] orders",
            "how many of the <customers> {customer_filter} did not place any order",
        ],
    ),
    intent(
        "customer-neighbors",
        "SELECT customers.name FROM customers WHERE customers.{place} = (SELECT customers.{place} FROM customers WHERE customers.name = '{customer}') AND customers.name <> '{customer}'",
        &[
            "which other <customers> live in the same {place} as {customer}",
            "who [else] lives in the same {place} as {customer}",
            "<list> the other <customers> from the {place} of {customer}",
            "which <customers> share the {place} (of|with) {customer}",
        ],
    ),
    intent(
        "customer-cities",
        "SELECT DISTINCT customers.city FROM customers WHERE customers.country = '{country}' AND customers.joined_on {joined} '{date}'",
        &[
            "in which cities of {country} do <customers> live who joined {joined} {date}",
            "<list> the [different|distinct] cities in {country} with <customers> who joined {joined} {date}",
            "which cities in {country} have <customers> that joined {joined} {date}",
            "<what are> the [different|distinct] cities of <customers> from {country} who joined {joined} {date}",
        ],
    ),
];
