//! Questions about what was sold: revenue, quantities, baskets.

use super::{Intent, intent};

pub(super) const INTENTS: &[Intent] = &[
    intent(
        "revenue",
        "SELECT ROUND(SUM(order_items.amount), 2) FROM order_items JOIN order_items.orders WHERE {order_filter}",
        &[
            "<what is> the [total] <revenue> from <orders> {order_filter}",
            "how much <revenue> did <orders> {order_filter} bring [in]",
            "what was our <revenue> from <orders> {order_filter}",
            "how high is the [total] <revenue> of <orders> {order_filter}",
        ],
    ),
    intent(
        "revenue-category",
        "SELECT ROUND(SUM(order_items.amount), 2) FROM order_items JOIN order_items.orders JOIN order_items.products JOIN products.categories WHERE categories.name = '{category}' AND {when}",
        &[
            "<what is> the [total] <revenue> of {category} <products> {when}",
            "how much <revenue> did {category} <products> bring {when}",
            "what was our <revenue> in the category {category} {when}",
        ],
    ),
    intent(
        "revenue-category-groups",
        "SELECT categories.name, ROUND(SUM(order_items.amount), 2) FROM order_items JOIN order_items.products JOIN products.categories WHERE {product_filter} GROUP BY categories.name",
        &[
            "<what is> the <revenue> <per> category for <products> {product_filter}",
            "<per> category, how much <revenue> did <products> {product_filter} bring",
            "show the <revenue> of <products> {product_filter} <per> category",
        ],
    ),
    intent(
        "revenue-product",
        "SELECT ROUND(SUM(order_items.amount), 2) FROM order_items JOIN order_items.products WHERE products.name = '{sold_product}'",
        &[
            "<what is> the [total] <revenue> of the {sold_product}",
            "how much <revenue> did the {sold_product} bring [in]",
            "what was our <revenue> with the <product> {sold_product}",
            "how high is the [total] <revenue> of the <product> {sold_product}",
        ],
    ),
    intent(
        "quantity-product",
        "SELECT SUM(order_items.quantity) FROM order_items JOIN order_items.products WHERE products.name = '{sold_product}'",
        &[
            "how many units of the {sold_product} were sold [in total]",
            "<what is> the total quantity sold of the {sold_product}",
            "how often was the {sold_product} sold in units",
            "what quantity of the <product> {sold_product} did we sell",
        ],
    ),
    intent(
        "quantity-top",
        "SELECT products.name, SUM(order_items.quantity) FROM order_items JOIN order_items.orders JOIN order_items.products WHERE {when} GROUP BY products.name ORDER BY SUM(order_items.quantity) DESC, products.name LIMIT {top}",
        &[
            "what are the {top} best-selling <products> of <orders> placed {when}, and how many units were sold",
            "<list> the {top} best sellers {when} with units sold",
            "which {top} <products> sold the most units {when}, and how many",
            "show the top {top} <products> by units sold {when}",
        ],
    ),
    intent(
        "quantity-category-top",
        "SELECT products.name, SUM(order_items.quantity) FROM order_items JOIN order_items.products JOIN products.categories WHERE categories.name = '{category}' GROUP BY products.name ORDER BY SUM(order_items.quantity) DESC, products.name LIMIT {top}",
        &[
            "what are the {top} best-selling {category} <products>, and how many units were sold",
            "<list> the {top} best sellers in [the category] {category} with units sold",
            "which {top} {category} <products> sold the most units, and how many",
            "show the top {top} {category} <products> by units sold",
        ],
    ),
    intent(
        "spending",
        "SELECT ROUND(SUM(order_items.amount), 2) FROM order_items JOIN order_items.orders JOIN orders.customers WHERE customers.name = '{buyer}'",
        &[
            "how much (did {buyer} spend|has {buyer} spent) [in total]",
            "<what is> the total spending of [the] <customer> {buyer}",
            "how much money did [the] <customer> {buyer} spend [in total]",
            "what is the value of all <orders> (of|placed by) {buyer}",
        ],
    ),
    intent(
        "spending-top",
        "SELECT customers.name, ROUND(SUM(order_items.amount), 2) FROM order_items JOIN order_items.orders JOIN orders.customers WHERE {when} GROUP BY customers.name ORDER BY SUM(order_items.amount) DESC, customers.name LIMIT {top}",
        &[
            "which {top} <customers> spent the most {when}, and how much",
            "<list> the top {top} <customers> by spending {when}, with amounts",
            "who are the top {top} spenders {when}, with amounts",
        ],
    ),
    intent(
        "order-products",
        "SELECT products.name, order_items.quantity FROM order_items JOIN order_items.products WHERE order_items.order_id = {order}",
        &[
            "which <products> and quantities (are|were) in order [number] {order}",
            "<list> the <products> and quantities (of|in) order [number] {order}",
            "what was ordered with order [number] {order}, and how many units",
            "for order [number] {order}, what are the <products> and quantities",
        ],
    ),
    intent(
        "order-value",
        "SELECT ROUND(SUM(order_items.amount), 2) FROM order_items WHERE order_items.order_id = {order}",
        &[
            "<what is> the [total] value of order [number] {order}",
            "how much (is|was) order [number] {order} worth",
            "what did order [number] {order} cost [in total]",
            "how high is the [total] value of order [number] {order}",
        ],
    ),
    intent(
        "order-value-having",
        "SELECT order_items.order_id FROM order_items JOIN order_items.orders WHERE {when} GROUP BY order_items.order_id HAVING SUM(order_items.amount) {more} {amount}",
        &[
            "which <orders> placed {when} are worth {more} {amount} [dollars]",
            "<list> the ids of <orders> placed {when} with a value of {more} {amount} [dollars]",
            "what <orders> placed {when} have a total of {more} {amount} [dollars]",
        ],
    ),
    intent(
        "order-size-having",
        "SELECT order_items.order_id FROM order_items JOIN order_items.orders WHERE {when} GROUP BY order_items.order_id HAVING COUNT(*) {as_many} {few}",
        &[
            "which <orders> placed {when} have {as_many} {few} (lines|positions)",
            "<list> the ids of <orders> placed {when} with {as_many} {few} (lines|positions)",
            "what <orders> placed {when} contain {as_many} {few} (lines|positions)",
        ],
    ),
    intent(
        "product-buyers",
        "SELECT DISTINCT customers.name FROM order_items JOIN order_items.orders JOIN order_items.products JOIN orders.customers WHERE products.name = '{sold_product}'",
        &[
            "which <customers> (bought|ordered) the {sold_product}",
            "<list> the [different] <customers> who (bought|ordered) the {sold_product}",
            "who (bought|ordered) the [<product>] {sold_product}",
            "by which <customers> was the {sold_product} (bought|ordered)",
        ],
    ),
    intent(
        "buyer-products",
        "SELECT DISTINCT products.name FROM order_items JOIN order_items.orders JOIN order_items.products JOIN orders.customers WHERE customers.name = '{buyer}'",
        &[
            "which <products> did {buyer} (buy|order)",
            "<list> the [different] <products> that {buyer} (bought|ordered)",
            "what (has {buyer} (bought|ordered)|did {buyer} (buy|order)) [so far]",
            "which <products> were (bought|ordered) by {buyer}",
        ],
    ),
    intent(
        "category-sold-in",
        "SELECT DISTINCT categories.name FROM order_items JOIN order_items.orders JOIN order_items.products JOIN products.categories WHERE orders.status = '{status}' AND {when}",
        &[
            "which categories appear in {status} <orders> placed {when}",
            "<list> the [different] categories of <products> in {status} <orders> placed {when}",
            "what categories do the <products> of {status} <orders> placed {when} belong to",
        ],
    ),
    intent(
        "product-sold-having",
        "SELECT products.name FROM order_items JOIN order_items.products WHERE {product_filter} GROUP BY products.name HAVING SUM(order_items.quantity) {more} {units}",
        &[
            "which <products> {product_filter} sold {more} {units} units [in total]",
            "<list> the <products> {product_filter} of which {more} {units} units were sold",
            "what <products> {product_filter} have total sales of {more} {units} units",
        ],
    ),
    intent(
        "quantity-statistic",
        "SELECT ROUND({average}(order_items.quantity), 2) FROM order_items JOIN order_items.products JOIN products.categories WHERE categories.name = '{category}' AND {product_range}",
        &[
            "<what is> the {average} quantity <per_line> for {category} <products> {product_range}",
            "how high is the {average} quantity <per_line> of {category} <products> {product_range}",
            "among {category} <products> {product_range}, what is the {average} quantity <per_line>",
        ],
    ),
];
