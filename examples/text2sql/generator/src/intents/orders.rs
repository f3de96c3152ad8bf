//! Questions about orders and who placed them.

use super::{Intent, intent};

pub(super) const INTENTS: &[Intent] = &[
    intent(
        "order-count",
        "SELECT COUNT(*) FROM orders WHERE {order_filter}",
        &[
            "how many <orders> {order_filter} (are there|do we have)",
            "count [all|the] <orders> {order_filter}",
            "<what is> the number of <orders> {order_filter}",
            "what number of <orders> {order_filter} do we have",
        ],
    ),
    intent(
        "order-list",
        "SELECT {order_fields} FROM orders WHERE orders.status = '{status}' AND {when}",
        &[
            "<list> the {order_fields} of [all|the] {status} <orders> placed {when}",
            "<what are> the {order_fields} of [all|the] {status} <orders> placed {when}",
            "I need the {order_fields} of [all|the] {status} <orders> placed {when}",
            "for [all|the] {status} <orders> placed {when}, what are the {order_fields}",
        ],
    ),
    intent(
        "order-field",
        "SELECT orders.{order_field} FROM orders WHERE orders.id = {order}",
        &[
            "<what is> the {order_field} of order [number] {order}",
            "which {order_field} does order [number] {order} have",
            "look up the {order_field} of order [number] {order}",
            "for order [number] {order}, what is the {order_field}",
        ],
    ),
    intent(
        "order-customer",
        "SELECT customers.name FROM orders JOIN orders.customers WHERE orders.id = {order}",
        &[
            "who placed order [number] {order}",
            "which <customer> placed order [number] {order}",
            "<what is> the name of the <customer> (of|who placed) order [number] {order}",
            "by whom was order [number] {order} placed",
        ],
    ),
    intent(
        "order-employee",
        "SELECT employees.name FROM orders JOIN orders.employees WHERE orders.id = {order}",
        &[
            "who handled order [number] {order}",
            "which employee handled order [number] {order}",
            "<what is> the name of the employee who handled order [number] {order}",
            "by whom was order [number] {order} handled",
        ],
    ),
    intent(
        "customer-orders",
        "SELECT {order_fields} FROM orders JOIN orders.customers WHERE customers.name = '{buyer}'",
        &[
            "<list> the {order_fields} of [all|the] <orders> (of|placed by|from) {buyer}",
            "<what are> the {order_fields} of [all|the] <orders> (of|placed by|from) {buyer}",
            "I need the {order_fields} of [all|the] <orders> (of|placed by|from) {buyer}",
            "for [all|the] <orders> (of|placed by|from) {buyer}, what are the {order_fields}",
        ],
    ),
    intent(
        "customer-order-count",
        "SELECT COUNT(*) FROM orders JOIN orders.customers WHERE customers.name = '{buyer}' AND {when}",
        &[
            "how many <orders> did {buyer} place {when}",
            "count the <orders> that {buyer} placed {when}",
            "<what is> the number of <orders> placed by {buyer} {when}",
            "how many times did {buyer} order {when}",
        ],
    ),
    intent(
        "customer-order-date",
        "SELECT {first}(orders.ordered_on) FROM orders JOIN orders.customers WHERE customers.name = '{buyer}'",
        &[
            "<what is> the date of the {first} order of {buyer}",
            "when did {buyer} place the {first} order",
            "on which date was the {first} order of {buyer}",
            "when was the {first} order of {buyer} placed",
        ],
    ),
    intent(
        "customer-order-date-status",
        "SELECT {first}(orders.ordered_on) FROM orders JOIN orders.customers WHERE customers.country = '{country}' AND orders.status = '{status}'",
        &[
            "<what is> the date of the {first} {status} order from {country}",
            "when was the {first} {status} order of a <customer> (from|in) {country} placed",
            "on which date was the {first} {status} order from {country}",
        ],
    ),
    intent(
        "order-status-groups",
        "SELECT orders.status, COUNT(*) FROM orders WHERE {when} GROUP BY orders.status",
        &[
            "how many <orders> were placed {when} <per> status",
            "count the <orders> placed {when} <per> status",
            "<what is> the number of <orders> placed {when} <per> status",
            "<per> status, how many <orders> were placed {when}",
        ],
    ),
    intent(
        "order-month-groups",
        "SELECT strftime('%m', orders.ordered_on), COUNT(*) FROM orders JOIN orders.customers WHERE strftime('%Y', orders.ordered_on) = '{year}' AND customers.{located} GROUP BY strftime('%m', orders.ordered_on)",
        &[
            "how many <orders> from {located} were there <per> month in {year}",
            "count the <orders> from {located} in {year} <per> month",
            "<per> month of {year}, how many <orders> came from {located}",
            "<what is> the number of <orders> from {located} <per> month in {year}",
        ],
    ),
    intent(
        "order-year-groups",
        "SELECT strftime('%Y', orders.ordered_on), COUNT(*) FROM orders JOIN orders.customers WHERE customers.{located} AND orders.status = '{status}' GROUP BY strftime('%Y', orders.ordered_on)",
        &[
            "how many {status} <orders> from {located} were there <per> year",
            "count the {status} <orders> from {located} <per> year",
            "<per> year, how many {status} <orders> came from {located}",
            "<what is> the number of {status} <orders> from {located} <per> year",
        ],
    ),
    intent(
        "order-place-count",
        "SELECT COUNT(*) FROM orders JOIN orders.customers WHERE customers.{located} AND {when}",
        &[
            "how many <orders> came from {located} {when}",
            "how many <orders> were placed by <customers> (in|from) {located} {when}",
            "count the <orders> from {located} placed {when}",
            "<what is> the number of <orders> from {located} placed {when}",
        ],
    ),
    intent(
        "order-place-groups",
        "SELECT customers.country, COUNT(*) FROM orders JOIN orders.customers WHERE {order_filter} GROUP BY customers.country",
        &[
            "how many <orders> {order_filter} are there <per> country",
            "count the <orders> {order_filter} <per> country",
            "<what is> the number of <orders> {order_filter} <per> country",
            "<per> country, how many <orders> {order_filter} are there",
        ],
    ),
    intent(
        "buyers",
        "SELECT DISTINCT customers.name FROM orders JOIN orders.customers WHERE customers.{located} AND {when}",
        &[
            "which <customers> (from|in) {located} placed [an] order {when}",
            "<list> the [different] <customers> (from|in) {located} who ordered [something] {when}",
            "who (from|in) {located} placed [an] order {when}",
            "what <customers> (from|in) {located} ordered [something] {when}",
        ],
    ),
    intent(
        "buyer-having",
        "SELECT customers.name FROM orders JOIN orders.customers WHERE {order_filter} GROUP BY customers.name HAVING COUNT(*) {as_many} {few}",
        &[
            "which <customers> have {as_many} {few} <orders> {order_filter}",
            "<list> the <customers> with {as_many} {few} <orders> {order_filter}",
            "who has {as_many} {few} <orders> {order_filter}",
            "what <customers> have {as_many} {few} <orders> {order_filter}",
        ],
    ),
    intent(
        "buyer-top",
        "SELECT customers.name, COUNT(*) FROM orders JOIN orders.customers WHERE {order_filter} GROUP BY customers.name ORDER BY COUNT(*) DESC, customers.name LIMIT {top}",
        &[
            "which {top} <customers> have the most <orders> {order_filter}, and how many",
            "<list> the top {top} <customers> by number of <orders> {order_filter}, with counts",
            "who are the top {top} <customers> with the most <orders> {order_filter}, with counts",
        ],
    ),
    intent(
        "customer-in-orders",
        "SELECT customers.name, customers.city FROM customers WHERE customers.country = '{country}' AND customers.id {some} (SELECT orders.customer_id FROM orders WHERE {order_filter})",
        &[
            "<list> names and cities of <customers> from {country} with {some} <orders> {order_filter}",
            "which <customers> from {country} have {some} <orders> {order_filter}, and in which cities",
            "what are the names and cities of <customers> from {country} who have {some} <orders> {order_filter}",
        ],
    ),
];
