//! Questions about suppliers and what they deliver.

use super::{Intent, intent};

pub(super) const INTENTS: &[Intent] = &[
    intent(
        "supplier-field",
        "SELECT suppliers.{place} FROM suppliers WHERE suppliers.name = '{supplier}'",
        &[
            "in which {place} is [the] <supplier> {supplier} [based|located]",
            "<what is> the {place} of [the] <supplier> {supplier}",
            "from which {place} does {supplier} (deliver|ship)",
            "which {place} does [the] <supplier> {supplier} come from",
        ],
    ),
    intent(
        "supplier-list",
        "SELECT {supplier_fields} FROM suppliers WHERE suppliers.country = '{supplier_country}'",
        &[
            "<list> the {supplier_fields} of [all|the] <suppliers> (from|in|based in) {supplier_country}",
            "<what are> the {supplier_fields} of [all|the] <suppliers> (from|in|based in) {supplier_country}",
            "I need the {supplier_fields} of [all|the] <suppliers> (from|in|based in) {supplier_country}",
        ],
    ),
    intent(
        "supplier-place-having",
        "SELECT suppliers.{place} FROM suppliers GROUP BY suppliers.{place} HAVING COUNT(*) {as_many} {few}",
        &[
            "which {place} has {as_many} {few} <suppliers>",
            "<list> every {place} with {as_many} {few} <suppliers>",
            "in which {place} are there {as_many} {few} <suppliers>",
        ],
    ),
    intent(
        "supplier-of-product",
        "SELECT suppliers.{supplier_field} FROM products JOIN products.suppliers WHERE products.name = '{product}'",
        &[
            "<what is> the {supplier_field} of the <supplier> of the {product}",
            "for the {product}, what is the {supplier_field} of the <supplier>",
            "look up the {supplier_field} of the <supplier> of the {product}",
            "what is the {supplier_field} of the <supplier> that (delivers|supplies) the {product}",
        ],
    ),
    intent(
        "supplier-products",
        "SELECT {product_fields} FROM products JOIN products.suppliers WHERE suppliers.name = '{vendor}' AND products.price {more} {price}",
        &[
            "<list> the {product_fields} of <products> (from|by|supplied by) {vendor} that cost {more} {price} [dollars]",
            "<what are> the {product_fields} of [all|the] {vendor} <products> (costing|priced) {more} {price} [dollars]",
            "I need the {product_fields} of <products> (from|by|supplied by) {vendor} (costing|priced) {more} {price} [dollars]",
            "for <products> (from|by) {vendor} that cost {more} {price} [dollars], what are the {product_fields}",
        ],
    ),
    intent(
        "supplier-product-statistic",
        "SELECT ROUND({average}(products.price), 2) FROM products JOIN products.suppliers WHERE suppliers.{named}",
        &[
            "<what is> the {average} price of <products> (from|supplied by) {named}",
            "what is the {average} price that <products> (from|supplied by) {named} have",
            "how high is the {average} price of <products> (from|supplied by) {named}",
            "among the <products> (from|supplied by) {named}, what is the {average} price",
        ],
    ),
    intent(
        "supplier-product-groups",
        "SELECT suppliers.name, COUNT(*) FROM products JOIN products.suppliers WHERE {product_filter} GROUP BY suppliers.name",
        &[
            "how many <products> {product_filter} are there <per> <supplier>",
            "count the <products> {product_filter} <per> <supplier>",
            "<what is> the number of <products> {product_filter} <per> <supplier>",
            "<per> <supplier>, how many <products> {product_filter} are there",
        ],
    ),
    intent(
        "supplier-top",
        "SELECT suppliers.name, COUNT(*) FROM products JOIN products.suppliers WHERE {product_filter} GROUP BY suppliers.name ORDER BY COUNT(*) DESC, suppliers.name LIMIT {top}",
        &[
            "which {top} <suppliers> (offer|deliver|supply) the most <products> {product_filter}, and how many",
            "<list> the top {top} <suppliers> by number of <products> {product_filter}, with counts",
            "what are the top {top} <suppliers> with the most <products> {product_filter}, and how many are there",
            "who are the top {top} <suppliers> of <products> {product_filter}, with counts",
        ],
    ),
    intent(
        "supplier-having",
        "SELECT suppliers.name FROM products JOIN products.suppliers WHERE {product_filter} GROUP BY suppliers.name HAVING COUNT(*) {as_many} {few}",
        &[
            "which <suppliers> (offer|deliver|supply) {as_many} {few} <products> {product_filter}",
            "<list> the <suppliers> with {as_many} {few} <products> {product_filter}",
            "what <suppliers> have {as_many} {few} <products> {product_filter}",
            "which <suppliers> have {as_many} {few} <products> {product_filter} on offer",
        ],
    ),
    intent(
        "supplier-of-category",
        "SELECT DISTINCT suppliers.name FROM products JOIN products.categories JOIN products.suppliers WHERE categories.name = '{category}' AND {product_range}",
        &[
            "which <suppliers> (offer|deliver|supply) {category} <products> {product_range}",
            "<list> the <suppliers> of {category} <products> {product_range}",
            "who (offers|delivers|supplies) {category} <products> {product_range}",
            "in the category {category}, which <suppliers> have <products> {product_range}",
        ],
    ),
    intent(
        "supplier-in",
        "SELECT suppliers.name FROM suppliers WHERE suppliers.country = '{supplier_country}' AND suppliers.id {some} (SELECT products.supplier_id FROM products WHERE {product_filter})",
        &[
            "which <suppliers> from {supplier_country} (have|offer) {some} <products> {product_filter}",
            "<list> the <suppliers> from {supplier_country} with {some} <products> {product_filter}",
            "who among the <suppliers> from {supplier_country} has {some} <products> {product_filter}",
        ],
    ),
    intent(
        "product-supplier-place",
        "SELECT products.name FROM products JOIN products.categories JOIN products.suppliers WHERE categories.name = '{category}' AND suppliers.country = '{supplier_country}'",
        &[
            "which {category} <products> come from {supplier_country}",
            "<list> the {category} <products> of <suppliers> (from|in) {supplier_country}",
            "what {category} <products> do we get from <suppliers> in {supplier_country}",
            "in [the category] {category}, which <products> have a <supplier> (from|in) {supplier_country}",
        ],
    ),
];
