//! Questions about products and categories.

use super::{Intent, intent};

pub(super) const INTENTS: &[Intent] = &[
    intent(
        "product-count",
        "SELECT COUNT(*) FROM products WHERE {product_filter}",
        &[
            "how many <products> {product_filter} (are there|do we have|do we sell)",
            "count [all|the] <products> {product_filter}",
            "<what is> the number of <products> {product_filter}",
            "what number of <products> {product_filter} do we sell",
        ],
    ),
    intent(
        "product-list",
        "SELECT {product_fields} FROM products WHERE {product_filter}",
        &[
            "<list> the {product_fields} of [all|the] <products> {product_filter}",
            "<what are> the {product_fields} of [all|the] <products> {product_filter}",
            "I need the {product_fields} of [all|the] <products> {product_filter}",
            "for [all|the] <products> {product_filter}, what are the {product_fields}",
        ],
    ),
    intent(
        "product-price-and-stock",
        "SELECT products.name FROM products WHERE products.price {more} {price} AND products.stock {more2} {units}",
        &[
            "which <products> cost {more} {price} [dollars] and have {more2} {units} units in stock",
            "<list> the <products> (priced|costing) {more} {price} [dollars] with {more2} {units} units in stock",
            "which <products> have a price {more} {price} [dollars] and a stock {more2} {units}",
            "what do we sell for {more} {price} [dollars] that has {more2} {units} units in stock",
        ],
    ),
    intent(
        "product-field",
        "SELECT products.{product_field} FROM products WHERE products.name = '{product}'",
        &[
            "<what is> the {product_field} of the {product}",
            "look up the {product_field} of the <product> {product}",
            "for the <product> {product}, what is the {product_field}",
            "which {product_field} (is stored|do we have) for the {product}",
        ],
    ),
    intent(
        "product-category",
        "SELECT categories.name FROM products JOIN products.categories WHERE products.name = '{product}'",
        &[
            "(which|what) category does the {product} belong to",
            "<what is> the category of the {product}",
            "in which category (is|do we list|can i find) the {product}",
            "under (which|what) category is the <product> {product} sold",
        ],
    ),
    intent(
        "product-by-price",
        "SELECT products.name FROM products JOIN products.categories WHERE categories.name = '{category}' ORDER BY products.price {priciest}, products.name LIMIT {top}",
        &[
            "what are the {top} {priciest} <products> in [the category] {category}",
            "<list> the {top} {priciest} {category} <products>",
            "which {top} <products> in [the category] {category} are the {priciest}",
            "(in|from) [the category] {category}, what are the {top} {priciest} <products>",
        ],
    ),
    intent(
        "category-products",
        "SELECT {product_fields} FROM products JOIN products.categories WHERE categories.name = '{category}' AND {product_range}",
        &[
            "<list> the {product_fields} of {category} <products> {product_range}",
            "<what are> the {product_fields} of <products> {product_range} in the category {category}",
            "in the category {category}, what are the {product_fields} of <products> {product_range}",
            "I need the {product_fields} of [all|the] {category} <products> {product_range}",
        ],
    ),
    intent(
        "category-count",
        "SELECT COUNT(*) FROM products JOIN products.categories WHERE categories.name = '{category}' AND {product_range}",
        &[
            "how many {category} <products> {product_range} (are there|do we have|do we sell)",
            "count the <products> {product_range} in the category {category}",
            "<what is> the number of {category} <products> {product_range}",
            "in the category {category}, how many <products> {product_range} do we have",
        ],
    ),
    intent(
        "category-price-statistic",
        "SELECT ROUND({average}(products.price), 2) FROM products JOIN products.categories WHERE categories.name = '{category}' AND products.stock {more} {units}",
        &[
            "<what is> the {average} price of {category} <products> with {more} {units} units in stock",
            "what is the {average} price in [the category] {category} of <products> with {more} {units} units in stock",
            "among {category} <products> with {more} {units} units in stock, what is the {average} price",
            "how high is the {average} price of {category} <products> that have {more} {units} units in stock",
        ],
    ),
    intent(
        "category-stock",
        "SELECT SUM(products.stock) FROM products JOIN products.categories WHERE categories.name = '{category}' AND products.price {more} {price}",
        &[
            "<what is> the total stock of {category} <products> (costing|priced) {more} {price} [dollars]",
            "how many units in total are in stock of {category} <products> (costing|priced) {more} {price} [dollars]",
            "how many units of {category} <products> that cost {more} {price} [dollars] are in stock",
            "sum up the stock of {category} <products> that cost {more} {price} [dollars]",
        ],
    ),
    intent(
        "product-sold-out",
        "SELECT products.name FROM products JOIN products.categories WHERE categories.name = '{category}' AND products.stock = 0",
        &[
            "which {category} <products> are (sold out|out of stock)",
            "<list> the {category} <products> that are (sold out|out of stock)",
            "what is (sold out|out of stock) in [the category] {category}",
            "in [the category] {category}, which <products> have no stock [left]",
        ],
    ),
    intent(
        "category-groups",
        "SELECT categories.name, COUNT(*) FROM products JOIN products.categories WHERE {product_filter} GROUP BY categories.name",
        &[
            "how many <products> {product_filter} are there <per> category",
            "count the <products> {product_filter} <per> category",
            "<what is> the number of <products> {product_filter} <per> category",
            "<per> category, how many <products> {product_filter} do we sell",
        ],
    ),
    intent(
        "category-price-groups",
        "SELECT categories.name, ROUND({average}(products.price), 2) FROM products JOIN products.categories WHERE products.stock {more} {units} GROUP BY categories.name",
        &[
            "<what is> the {average} price <per> category of <products> with {more} {units} units in stock",
            "<per> category, what is the {average} price of <products> with {more} {units} units in stock",
            "show the {average} price of <products> with {more} {units} units in stock <per> category",
            "how high is the {average} price <per> category for <products> with {more} {units} units in stock",
        ],
    ),
    intent(
        "category-having-count",
        "SELECT categories.name FROM products JOIN products.categories WHERE {product_filter} GROUP BY categories.name HAVING COUNT(*) {as_many} {few}",
        &[
            "which categories have {as_many} {few} <products> {product_filter}",
            "<list> the categories with {as_many} {few} <products> {product_filter}",
            "in which categories do we sell {as_many} {few} <products> {product_filter}",
            "what categories (contain|offer) {as_many} {few} <products> {product_filter}",
        ],
    ),
    intent(
        "category-having-price",
        "SELECT categories.name FROM products JOIN products.categories WHERE products.stock {more2} {units} GROUP BY categories.name HAVING AVG(products.price) {more} {price}",
        &[
            "which categories have an average price {more} {price} [dollars] for <products> with {more2} {units} units in stock",
            "<list> the categories where <products> with {more2} {units} units in stock cost {more} {price} [dollars] on average",
            "in which categories is the average price of <products> with {more2} {units} units in stock {more} {price} [dollars]",
            "what categories have an average price {more} {price} [dollars] among <products> with {more2} {units} units in stock",
        ],
    ),
    intent(
        "product-above-average",
        "SELECT products.name FROM products WHERE {product_filter} AND products.price {than} (SELECT AVG(products.price) FROM products)",
        &[
            "which <products> {product_filter} are {than} than [the] average",
            "<list> the <products> {product_filter} that are {than} than average",
            "what <products> {product_filter} are {than} than the average <product>",
            "among the <products> {product_filter}, which are {than} than average",
        ],
    ),
    intent(
        "product-than-product",
        "SELECT products.name FROM products JOIN products.categories WHERE categories.name = '{category}' AND products.price {than} (SELECT products.price FROM products WHERE products.name = '{product}')",
        &[
            "which {category} <products> are {than} than the {product}",
            "<list> the {category} <products> that are {than} than the {product}",
            "what in [the category] {category} is {than} than the {product}",
            "in [the category] {category}, which <products> are {than} than the {product}",
        ],
    ),
    intent(
        "product-never-sold",
        "SELECT products.name FROM products WHERE {product_filter} AND NOT EXISTS (SELECT 1 FROM order_items WHERE order_items.product_id = products.id)",
        &[
            "which <products> {product_filter} were never (sold|ordered)",
            "<list> the <products> {product_filter} that nobody (ordered|bought)",
            "what <products> {product_filter} have never been (sold|ordered)",
            "among the <products> {product_filter}, which were never (sold|ordered)",
        ],
    ),
    intent(
        "category-never-sold-count",
        "SELECT COUNT(*) FROM products JOIN products.categories WHERE categories.name = '{category}' AND products.price {more} {price} AND NOT EXISTS (SELECT 1 FROM order_items WHERE order_items.product_id = products.id)",
        &[
            "how many {category} <products> that cost {more} {price} [dollars] were never (sold|ordered)",
            "count the {category} <products> costing {more} {price} [dollars] that nobody (ordered|bought)",
            "<what is> the number of {category} <products> (costing|priced) {more} {price} [dollars] that were never (sold|ordered)",
        ],
    ),
    intent(
        "product-with-word",
        "SELECT products.name, products.price FROM products WHERE products.name LIKE '%{word}%' ORDER BY products.price {priciest}, products.name LIMIT {top}",
        &[
            "what are the {top} {priciest} <products> with {word} in the name, and what do they cost",
            "<list> names and prices of the {top} {priciest} <products> whose name contains {word}",
            "which {top} <products> named {word} are the {priciest}, with prices",
        ],
    ),
    intent(
        "category-of-supplier",
        "SELECT DISTINCT categories.name FROM products JOIN products.categories JOIN products.suppliers WHERE suppliers.name = '{vendor}' AND products.price {more} {price}",
        &[
            "in which categories does {vendor} (offer|supply|deliver) <products> for {more} {price} [dollars]",
            "<list> the categories in which {vendor} has <products> (costing|priced) {more} {price} [dollars]",
            "what [different] categories do the <products> of {vendor} that cost {more} {price} [dollars] belong to",
            "which categories have <products> of {vendor} that cost {more} {price} [dollars]",
        ],
    ),
];
