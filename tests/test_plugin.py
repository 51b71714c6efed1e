def test_everything_right(project, distribution):
    project.pallet(4)
    result = project.run(*distribution)
    print(result.stdout.str())
    assert len(project.fits()) == 4
