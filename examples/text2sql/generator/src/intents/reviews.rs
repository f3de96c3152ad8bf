//! Questions about what customers think of products.

use super::{Intent, intent};

pub(super) const INTENTS: &[Intent] = &[
    intent(
        "rating-statistic",
        "SELECT ROUND({average}(reviews.rating), 2) FROM reviews JOIN reviews.products WHERE products.name = '{reviewed_product}'",
        &[
            "<what is> the {average} rating of the {reviewed_product}",
            "how high is the {average} rating of the <product> {reviewed_product}",
            "for the {reviewed_product}, what is the {average} rating",
            "what {average} rating does the {reviewed_product} have",
        ],
    ),
    intent(
        "review-count",
        "SELECT COUNT(*) FROM reviews WHERE reviews.rating {more} {stars} AND {review_when}",
        &[
            "how many reviews with {more} {stars} stars were written {review_when}",
            "count the reviews with {more} {stars} stars written {review_when}",
            "<what is> the number of reviews with {more} {stars} stars [that were] written {review_when}",
            "how many reviews written {review_when} gave {more} {stars} stars",
        ],
    ),
    intent(
        "product-reviews",
        "SELECT {review_fields} FROM reviews JOIN reviews.products WHERE products.name = '{reviewed_product}'",
        &[
            "<list> the {review_fields} of [all|the] reviews of the {reviewed_product}",
            "<what are> the {review_fields} of [all|the] reviews of the {reviewed_product}",
            "I need the {review_fields} of [all|the] reviews of the {reviewed_product}",
            "for the {reviewed_product}, what are the {review_fields} of the reviews",
        ],
    ),
    intent(
        "customer-reviews",
        "SELECT products.name, reviews.rating FROM reviews JOIN reviews.products JOIN reviews.customers WHERE customers.name = '{reviewer}'",
        &[
            "which <products> did {reviewer} review, and with which ratings",
            "<list> the <products> and ratings of [the] reviews (by|written by) {reviewer}",
            "what did {reviewer} review, and how many stars were given",
            "for {reviewer}, what are the reviewed <products> and ratings",
        ],
    ),
    intent(
        "product-reviewers",
        "SELECT customers.name, reviews.rating FROM reviews JOIN reviews.products JOIN reviews.customers WHERE products.name = '{reviewed_product}'",
        &[
            "who reviewed the {reviewed_product}, and with which ratings",
            "<list> the <customers> and ratings of [the] reviews of the {reviewed_product}",
            "which <customers> reviewed the {reviewed_product}, and how many stars did they give",
            "for the {reviewed_product}, what are the reviewers and [their] ratings",
        ],
    ),
    intent(
        "rating-top",
        "SELECT products.name, ROUND(AVG(reviews.rating), 2) FROM reviews JOIN reviews.products JOIN products.categories WHERE categories.name = '{category}' GROUP BY products.name ORDER BY AVG(reviews.rating) {best_rated}, products.name LIMIT {top}",
        &[
            "what are the {top} {best_rated} {category} <products>, and what are the average ratings",
            "<list> the {top} {best_rated} <products> in [the category] {category} with average ratings",
            "which {top} {category} <products> are the {best_rated}, with average ratings",
        ],
    ),
    intent(
        "rating-having",
        "SELECT products.name FROM reviews JOIN reviews.products WHERE {product_filter} GROUP BY products.name HAVING AVG(reviews.rating) {more} {stars}",
        &[
            "which <products> {product_filter} have an average rating of {more} {stars} [stars]",
            "<list> the <products> {product_filter} whose average rating is {more} {stars} [stars]",
            "what <products> {product_filter} are rated {more} {stars} [stars] on average",
        ],
    ),
    intent(
        "review-count-having",
        "SELECT products.name FROM reviews JOIN reviews.products WHERE {review_when} GROUP BY products.name HAVING COUNT(*) {as_many} {few}",
        &[
            "which <products> got {as_many} {few} reviews {review_when}",
            "<list> the <products> with {as_many} {few} reviews written {review_when}",
            "for which <products> were {as_many} {few} reviews written {review_when}",
        ],
    ),
    intent(
        "product-unreviewed",
        "SELECT products.name FROM products WHERE {product_filter} AND NOT EXISTS (SELECT 1 FROM reviews WHERE reviews.product_id = products.id)",
        &[
            "which <products> {product_filter} have no reviews [yet]",
            "<list> the <products> {product_filter} without [any] reviews",
            "what <products> {product_filter} were never reviewed",
            "among the <products> {product_filter}, which were never reviewed",
        ],
    ),
    intent(
        "customer-not-reviewing",
        "SELECT customers.name FROM customers WHERE {customer_filter} AND NOT EXISTS (SELECT 1 FROM reviews WHERE reviews.customer_id = customers.id)",
        &[
            "which <customers> {customer_filter} (never wrote|have not written) a review",
            "<list> the <customers> {customer_filter} who wrote no reviews",
            "who among the <customers> {customer_filter} has not written any review",
        ],
    ),
    intent(
        "rating-groups",
        "SELECT reviews.rating, COUNT(*) FROM reviews JOIN reviews.products JOIN products.categories WHERE categories.name = '{category}' AND {review_when} GROUP BY reviews.rating",
        &[
            "how many reviews of {category} <products> were written {review_when} <per> rating",
            "count the reviews of {category} <products> written {review_when} <per> rating",
            "<per> rating, how many reviews of {category} <products> were written {review_when}",
        ],
    ),
    intent(
        "rating-category-groups",
        "SELECT categories.name, ROUND(AVG(reviews.rating), 2) FROM reviews JOIN reviews.products JOIN products.categories WHERE {review_when} GROUP BY categories.name",
        &[
            "<what is> the average rating <per> category in reviews written {review_when}",
            "<per> category, what is the average rating in reviews written {review_when}",
            "show the average rating <per> category for reviews written {review_when}",
        ],
    ),
    intent(
        "rated-by-country",
        "SELECT DISTINCT products.name FROM reviews JOIN reviews.products JOIN reviews.customers WHERE customers.{located} AND reviews.rating {more} {stars}",
        &[
            "which <products> did <customers> (from|in) {located} rate with {more} {stars} stars",
            "<list> the [different] <products> that <customers> (from|in) {located} rated with {more} {stars} stars",
            "what <products> got {more} {stars} stars from <customers> (from|in) {located}",
        ],
    ),
    intent(
        "rating-better-than",
        "SELECT products.name FROM products WHERE {product_filter} AND products.id IN (SELECT reviews.product_id FROM reviews WHERE reviews.rating = {stars} AND {review_when})",
        &[
            "which <products> {product_filter} got a review with {stars} stars {review_when}",
            "<list> the <products> {product_filter} that were rated with {stars} stars {review_when}",
            "what <products> {product_filter} have a review with {stars} stars written {review_when}",
        ],
    ),
    intent(
        "reviewer-top",
        "SELECT customers.name, COUNT(*) FROM reviews JOIN reviews.customers WHERE {review_when} GROUP BY customers.name ORDER BY COUNT(*) DESC, customers.name LIMIT {top}",
        &[
            "which {top} <customers> wrote the most reviews {review_when}, and how many",
            "<list> the top {top} reviewers {review_when}, with counts",
            "who are the top {top} <customers> by number of reviews written {review_when}, with counts",
        ],
    ),
];
