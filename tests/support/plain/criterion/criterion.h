/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of Criterion's interface that our tests use, for builds with the thread sanitizer, under which
 * Criterion can't map the arena that its test processes inherit. All tests run one after another in one
 * process; the first that fails ends it.
 */
#ifndef TESTS_PLAIN_CRITERION_H
#define TESTS_PLAIN_CRITERION_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plain_test {
    const char *suite, *name;
    void (*run)(void);
    struct plain_test *next;
};

/** Defined in plain.c, which has main(). */
void plain_register(struct plain_test *t);
void plain_fail(const char *file, int line, const char *what) __attribute__((noreturn));

/* The options that Criterion takes behind the name are left out: they are limits of its test processes. */
#define Test(SUITE, NAME, ...)                                                                               \
    static void SUITE##_##NAME(void);                                                                        \
    __attribute__((constructor)) static void SUITE##_##NAME##_register(void)                                 \
    {                                                                                                        \
        static struct plain_test t = {#SUITE, #NAME, SUITE##_##NAME, NULL};                                  \
        plain_register(&t);                                                                                  \
    }                                                                                                        \
    static void SUITE##_##NAME(void)

#define TestSuite(SUITE, ...) typedef int SUITE##_suite

#define plain_check(CONDITION, TEXT)                                                                         \
    do {                                                                                                     \
        if (!(CONDITION))                                                                                    \
            plain_fail(__FILE__, __LINE__, TEXT);                                                            \
    } while (0)

#define cr_assert(CONDITION, ...)          plain_check(CONDITION, #CONDITION)
#define cr_assert_not(CONDITION, ...)      plain_check(!(CONDITION), "not " #CONDITION)
#define cr_assert_eq(A, B, ...)            plain_check((A) == (B), #A " == " #B)
#define cr_assert_neq(A, B, ...)           plain_check((A) != (B), #A " != " #B)
#define cr_assert_lt(A, B, ...)            plain_check((A) < (B), #A " < " #B)
#define cr_assert_leq(A, B, ...)           plain_check((A) <= (B), #A " <= " #B)
#define cr_assert_gt(A, B, ...)            plain_check((A) > (B), #A " > " #B)
#define cr_assert_geq(A, B, ...)           plain_check((A) >= (B), #A " >= " #B)
#define cr_assert_null(A, ...)             plain_check((A) == NULL, #A " is NULL")
#define cr_assert_not_null(A, ...)         plain_check((A) != NULL, #A " is not NULL")
#define cr_assert_str_eq(A, B, ...)        plain_check(strcmp(A, B) == 0, #A " is " #B)
#define cr_assert_str_neq(A, B, ...)       plain_check(strcmp(A, B) != 0, #A " is not " #B)
#define cr_assert_arr_eq(A, B, BYTES, ...) plain_check(memcmp(A, B, BYTES) == 0, #A " holds " #B)
#define cr_assert_fail(...)                plain_fail(__FILE__, __LINE__, "must not be reached")
#define cr_log_info(...)                   (void)(printf(__VA_ARGS__), printf("\n"))

#endif
