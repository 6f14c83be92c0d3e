"""From where clouds are seen, on which background, and that words are read and stay within the figure."""

from types import SimpleNamespace

import numpy as np
import pytest

import geomsink

pytest.importorskip("geomsink.plotting", exc_type=ImportError)
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from geomsink import plotting
from geomsink.plotting.look import current

RNG = np.random.default_rng(0)
X, Y = RNG.random((40, 3)), RNG.random((30, 3)) + 0.5
LONG = "a name with $ in it that is much longer than any panel of a figure is wide, whatever its size and its letters"
LUMINANCE = 0.2126, 0.7152, 0.0722
STEPS = [{"step": k + 1, "loss": 10.0**-k, "held_out": 2 * 10.0**-k} for k in range(4)]


@pytest.fixture(scope="module")
def solved():
    return geomsink.sinkhorn_divergence(X, Y, blur=0.2, engine="dense", certify=True)


def figures(solved):
    """One of each function, with long names."""
    history = [SimpleNamespace(evaluations=2 * k, epsilon=max(0.1, 0.4**k), marginal_error=0.3**k) for k in range(1, 9)]
    levels = (256, 300), (10**6, 10**6)
    plain = SimpleNamespace(history=history, approximation=SimpleNamespace(levels=levels, nodes=levels[-1]))
    small = Figure(figsize=(3, 2), facecolor=current().background, layout="constrained").add_subplot()
    losses = SimpleNamespace(values=[1.0, 0.9])
    colors = plotting.position_colors(X)
    return {
        "clouds": plotting.plot_clouds(X, Y, labels=(LONG, LONG)).figure,
        "tall": plotting.plot_clouds(X * [1, 9, 1], Y, labels=(LONG, LONG)).figure,
        "convergence": plotting.plot_convergence(plain, tol=1e-3).figure,
        "small": plotting.plot_convergence(plain, small, 1e-3).figure,
        "certificate": plotting.plot_certificate(solved, tol=1e-3).figure,
        "divergence": solved.plot((LONG, LONG)),
        "history": plotting.plot_history(SimpleNamespace(values=[3.0, 0.2, 0.001])).figure,
        "training": plotting.plot_training(STEPS).figure,
        "fit": plotting.plot_fit(X, Y, STEPS, (LONG, LONG), LONG, 2 * LONG),
        "gallery": plotting.plot_gallery([X, X], [colors, colors], [LONG, LONG], LONG, 2 * LONG),
        "registration": plotting.plot_registration(X, X, Y, losses, (LONG, LONG), LONG, LONG),
        "flow": plotting.plot_flow([X, X + 0.1], times=[0.0, 0.5]),
        "matches": _titled(plotting.plot_matches(X, Y, ([[0, 1]], [1.0]))),
    }  # fmt: skip


def _titled(ax):
    ax.set_title(LONG)
    return ax.figure


def words(figure):
    """All that is read of a figure: labels of ticks beyond the ends of an axis are there, and not drawn."""
    unseen = set()
    for ax in figure.axes:
        axis = ax.get_window_extent()
        for labels, k in ((ax.get_xticklabels(which="both"), 0), (ax.get_yticklabels(which="both"), 1)):
            for label in labels:
                middle = label.get_window_extent().get_points()[:, k].mean()
                if not (ax.axison and axis.get_points()[0, k] - 1 <= middle <= axis.get_points()[1, k] + 1):
                    unseen.add(id(label))
    texts = (text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip())
    return [text for text in texts if id(text) not in unseen]


def brightness(color):
    """Relative luminance, which contrast is a ratio of."""
    return np.array(to_rgb(color)) ** 2.2 @ LUMINANCE


@pytest.mark.parametrize("background", [None, "white"])
def test_words_stay_within_the_figure_and_are_read(solved, background):
    with plotting.look(background=background):
        made = figures(solved)
    for name, figure in made.items():
        FigureCanvasAgg(figure).draw()
        width, height = figure.bbox.width, figure.bbox.height
        shown = words(figure)
        assert shown, name
        page = brightness(figure.get_facecolor())
        for text in shown:
            box = text.get_window_extent()
            said = f"{name}: {text.get_text()!r} at {box}"
            assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, said
            assert text.get_fontsize() >= 6, said
            letters = brightness(text.get_color())
            least = 1.6 if str(text.get_color()) in plotting.CLOUD_COLORS else 4.5
            contrast = (max(page, letters) + 0.05) / (min(page, letters) + 0.05)
            assert contrast > least, said


def test_long_names_are_cut_and_what_follows_them_is_not(solved):
    found = [text.get_text() for text in solved.plot((LONG, "y")).texts if text.get_text().endswith("points")]
    assert found[0].startswith("a name with $ in it") and found[0].endswith("…   40 points")
    assert found[1] == "y   30 points"


def test_the_camera_goes_around_what_is_up():
    point = np.array([0.3, 0.5, 0.7])
    for up, seen in (("y", (0.3, 0.5, 0.7)), ("z", (0.5, 0.7, 0.3)), ("x", (0.7, 0.3, 0.5))):
        with plotting.look(azimuth=0, elevation=0, up=up):
            np.testing.assert_allclose(current().axes @ point, seen)
            assert np.linalg.det(current().axes) == pytest.approx(1)
        with plotting.look(azimuth=180, elevation=0, up=up):  # from behind: left is right
            np.testing.assert_allclose(current().axes @ point, np.multiply(seen, (-1, 1, -1)), atol=1e-15)
        with plotting.look(azimuth=123, elevation=90, up=up):  # from above
            np.testing.assert_allclose((current().axes @ point)[2], seen[1])


def test_figures_follow_the_look_and_only_within_it(solved):
    def places(ax):
        return np.asarray(ax.collections[0].get_offsets())

    before = places(plotting.plot_clouds(X, Y))
    with plotting.look(azimuth=-140):
        turned = places(plotting.plot_clouds(X, Y))
        with plotting.look(background="white"):  # what is not given stays
            np.testing.assert_array_equal(places(plotting.plot_clouds(X, Y)), turned)
            assert solved.plot().get_facecolor() == (1, 1, 1, 1)
        assert solved.plot().get_facecolor() != (1, 1, 1, 1)
        with pytest.raises(RuntimeError), plotting.look(azimuth=3):
            raise RuntimeError
        np.testing.assert_array_equal(places(plotting.plot_clouds(X, Y)), turned)
    assert np.abs(before - turned).max() > 0.1
    np.testing.assert_array_equal(places(plotting.plot_clouds(X, Y)), before)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"azimuth": float("nan")}, "azimuth: nan given, expected a finite number of degrees"),
        ({"elevation": 91}, "elevation: 91 given, expected degrees from -90 to 90"),
        ({"up": "up"}, "up: 'up' given, expected one of x, y, z"),
        ({"background": "paper"}, "background: 'paper' given, expected a colour"),
    ],
)
def test_refused_looks(given, message):
    with pytest.raises(ValueError, match=message), plotting.look(**given):
        pass
    assert current().axes[1, 1] > 0.9


def test_the_two_colours_of_clouds_differ_in_grey_and_for_the_colour_blind():
    """In lightness, as on grey paper, and by what is left to eyes without red or green cones (Viénot et al. 1999)."""
    one, other = (np.array(to_rgb(color)) ** 2.2 for color in plotting.CLOUD_COLORS)
    assert abs((one - other) @ LUMINANCE) > 0.2
    protan = np.array([[0.1121, 0.8853, -0.0005], [0.1127, 0.8897, -0.0001], [0.0045, 0.0, 1.0019]])
    deutan = np.array([[0.2920, 0.7054, -0.0003], [0.2934, 0.7089, 0.0], [-0.0210, 0.0256, 1.0019]])
    for left in (protan, deutan):
        assert np.linalg.norm(left @ (one - other)) > 0.4


def test_an_axis_of_ones_own_is_written_on_so_that_it_is_read():
    ax = Figure(facecolor="white").add_subplot()
    plotting.plot_training(STEPS, ax)
    for text in (*ax.get_legend().get_texts(), ax.xaxis.label):
        assert brightness(text.get_color()) < 0.2
    clear = Figure(facecolor="none").add_subplot()  # saved without a background, to lie on a white page
    plotting.plot_training(STEPS, clear)
    assert clear.xaxis.label.get_color() == ax.xaxis.label.get_color()
